"""neuron-serve: from a stack file to model endpoints. Read top to bottom, it is the table of contents."""

import pulumi

from infra import config, preflight
from infra.bucket_layout import bucket_layout
from infra.image_builds import chat_ui_image, image_builds, service_images
from infra.platform import aws_platform, existing_platform
from workloads.api_keys import stack_api_keys
from workloads.chat_ui import ChatUi, ChatUiArgs
from workloads.ingress import ServiceIngress, ServiceIngressArgs, plan_ingresses
from workloads.outputs import planned_outputs
from workloads.ray_service import RayService, RayServiceArgs
from workloads.service_plan import plan_services

# Whatever can be refused is refused here, before anything is registered.
stack, secrets = config.load()
preflight.check(stack)
builds = image_builds(stack)
bucket = bucket_layout(stack)
plans = plan_services(stack, secrets, bucket=bucket, images=service_images(stack, builds))
ingress_plans = plan_ingresses(stack)

if stack.aws and bucket:
    platform = aws_platform(stack, stack.aws, secrets, bucket=bucket, builds=builds)
else:
    platform = existing_platform(stack, secrets)
on_cluster = platform.on_cluster

api_keys = stack_api_keys(stack, secrets, on_cluster)
services = {
    name: RayService(
        name,
        RayServiceArgs(
            plan=plan,
            api_keys=api_keys,
            hugging_face_token=secrets.hugging_face_token,
            platform=[*platform.requirements, *platform.needed_in(name)],
            gcs_store=platform.gcs_store,
        ),
        opts=on_cluster,
    )
    for name, plan in plans.items()
}
ingresses = {
    name: ServiceIngress(name, ServiceIngressArgs(plan, services[name], platform.load_balancers), on_cluster)
    for name, plan in ingress_plans.items()
    if platform.load_balancers
}
if image := chat_ui_image(stack, builds):
    chat_models = {name: services[name].url for name in stack.on_chat_page}
    ChatUi(
        ChatUiArgs(image, chat_models, api_keys and api_keys.client, platform.built("chat-ui")),
        opts=on_cluster,
    )

pulumi.export("urls", {name: service.url for name, service in services.items()})
pulumi.export("releases", {name: service.release for name, service in services.items()})
pulumi.export("loadBalancers", {i.url: i.load_balancer for i in ingresses.values()} or None)
pulumi.export("apiKeys", api_keys and api_keys.text)
pulumi.export("imageRepository", platform.repository_url)
for key, value in planned_outputs(stack, plans).items():
    pulumi.export(key, value)

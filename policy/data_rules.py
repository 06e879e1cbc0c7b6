"""Rules about what is stored: encryption, public buckets, secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from policy.model import SECRET, UNKNOWN, Resource, Rule, as_dict, as_list, is_false

_BUCKETS = ("aws:s3/bucket:Bucket", "aws:s3/bucketV2:BucketV2")
_ENCRYPTION = (
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
    "aws:s3/bucketServerSideEncryptionConfigurationV2:BucketServerSideEncryptionConfigurationV2",
)
_ACCESS_BLOCK = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
_ACCESS_BLOCKS = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
# ECR encrypts every repository; these are the kinds there are.
# https://docs.aws.amazon.com/AmazonECR/latest/userguide/encryption-at-rest.html
_ECR_ENCRYPTION = ("AES256", "KMS", "KMS_DSSE")
# Names of properties that hold something to keep, wherever they stand.
_SECRET_NAME = re.compile(
    r"^(authToken|password|secretString|secretKey|privateKey|accessKey|apiKey|token)$|.+(Password|Secret|AuthToken)$"
)
# Names that look so and are not: names and references of secrets.
_NOT_SECRET = re.compile(r"(automountServiceAccountToken|imagePullSecret|existingSecret|secretName)$")


def encrypted_volumes(resource: Resource) -> Iterator[str]:
    """Volumes of nodes, of Kubernetes claims, and single ones."""
    if resource.type == "aws:ec2/launchTemplate:LaunchTemplate":
        yield from _unencrypted(resource.at("blockDeviceMappings"))
    elif resource.type.startswith("kubernetes:karpenter.k8s.aws/"):
        yield from _unencrypted(resource.at("spec.blockDeviceMappings"))
    elif resource.type == "aws:ebs/volume:Volume" and is_false(resource.at("encrypted")):
        yield "the volume is not encrypted"
    elif (
        resource.type.startswith("kubernetes:storage.k8s.io/")
        and resource.at("provisioner") == "ebs.csi.aws.com"
        and is_false(resource.at("parameters.encrypted"))
    ):
        yield "volumes of this class are not encrypted"


def _unencrypted(mappings: Any) -> Iterator[str]:
    if mappings is UNKNOWN:
        return
    for mapping in map(as_dict, as_list(mappings)):
        if "ebs" in mapping and is_false(as_dict(mapping["ebs"]).get("encrypted")):
            yield f"the volume {mapping.get('deviceName')} is not encrypted"


def encrypted_services(resource: Resource) -> Iterator[str]:
    """ElastiCache, the EKS secrets, image repositories, queues, topics."""
    match resource.type:
        case "aws:elasticache/replicationGroup:ReplicationGroup":
            if is_false(resource.at("atRestEncryptionEnabled")):
                yield "data at rest is not encrypted: atRestEncryptionEnabled"
            if is_false(resource.at("transitEncryptionEnabled")):
                yield "connections are not encrypted: transitEncryptionEnabled"
        case "eks:index:Cluster":
            if resource.at("encryptionConfigKeyArn") is None:
                yield "Kubernetes secrets are not encrypted with a key of the account: encryptionConfigKeyArn"
        case "aws:eks/cluster:Cluster":
            if resource.at("encryptionConfig") is None:
                yield "Kubernetes secrets are not encrypted with a key of the account: encryptionConfig"
        case "aws:ecr/repository:Repository":
            for entry in map(as_dict, as_list(resource.at("encryptionConfigurations"))):
                kind = entry.get("encryptionType", "AES256")
                if kind is not UNKNOWN and kind not in _ECR_ENCRYPTION:
                    yield f"{kind!r} is no encryption type of ECR"
        case "aws:sqs/queue:Queue":
            if is_false(resource.at("sqsManagedSseEnabled")) and resource.at("kmsMasterKeyId") is None:
                yield "messages are not encrypted: neither sqsManagedSseEnabled nor kmsMasterKeyId"
        case "aws:sns/topic:Topic":
            if resource.at("kmsMasterKeyId") is None:
                yield "messages are not encrypted: kmsMasterKeyId"
        case _:
            return


def encrypted_buckets(resources: Sequence[Resource]) -> Iterator[tuple[Resource, str]]:
    """Every bucket has a resource that says how it encrypts."""
    for bucket in _buckets(resources):
        if not _companions(bucket, resources, _ENCRYPTION):
            yield bucket, "the bucket says nothing about its encryption"


def private_buckets(resources: Sequence[Resource]) -> Iterator[tuple[Resource, str]]:
    """Every bucket blocks public access in all four ways, and none has a public access list."""
    for bucket in _buckets(resources):
        blocks = _companions(bucket, resources, (_ACCESS_BLOCK,))
        if not blocks:
            yield bucket, "the bucket has no public access block"
        for block in blocks:
            open_ = [name for name in _ACCESS_BLOCKS if is_false(block.at(name))]
            if open_:
                yield block, f"public access is not blocked by {', '.join(open_)}"
    for resource in resources:
        if resource.type.startswith("aws:s3/") and str(resource.at("acl", "")).startswith("public-"):
            yield resource, f"the access list {resource.at('acl')!r} is public"


def _buckets(resources: Sequence[Resource]) -> list[Resource]:
    return [resource for resource in resources if resource.type in _BUCKETS]


def _companions(bucket: Resource, resources: Sequence[Resource], types: Sequence[str]) -> list[Resource]:
    def belongs(resource: Resource) -> bool:
        name = resource.at("bucket")
        return bucket.urn in resource.sources.get("bucket", ()) or (
            isinstance(name, str) and name == bucket.at("bucket")
        )

    return [resource for resource in resources if resource.type in types and belongs(resource)]


def no_plain_secrets(resource: Resource) -> Iterator[str]:
    """Kubernetes secrets, and properties that are called like one."""
    if resource.type == "kubernetes:core/v1:Secret":
        for key in ("data", "stringData"):
            yield from _plain(resource.props.get(key), key, everything=True)
    else:
        yield from _plain(resource.props, "", everything=False)


def _plain(value: Any, path: str, *, everything: bool) -> Iterator[str]:
    if value is SECRET or value is UNKNOWN or value is None:
        return
    if isinstance(value, dict):
        for key, entry in as_dict(value).items():
            inner = f"{path}.{key}" if path else key
            yield from _plain(entry, inner, everything=everything or _is_secret_name(key, entry))
    elif isinstance(value, list):
        for index, entry in enumerate(as_list(value)):
            yield from _plain(entry, f"{path}[{index}]", everything=everything)
    elif everything and value != "":
        yield f"{path} holds plain text"


def _is_secret_name(key: str, value: Any) -> bool:
    return isinstance(value, str) and bool(_SECRET_NAME.search(key)) and not _NOT_SECRET.search(key)


RULES = [
    Rule(
        name="encrypted-volumes",
        description="EBS volumes are encrypted.",
        why="Weights, caches and logs outlive the node that wrote them.",
        way_out="set encrypted in the block device mapping or the storage class",
        check=encrypted_volumes,
    ),
    Rule(
        name="encrypted-services",
        description="ElastiCache, Kubernetes secrets, image repositories, queues and topics are encrypted.",
        why="Ray's state and the keys of the API are in them.",
        way_out="set the property that the message names; a change of ElastiCache's replaces it",
        check=encrypted_services,
    ),
    Rule(
        name="encrypted-buckets",
        description="Every S3 bucket says how it encrypts.",
        why="The account's default can be changed by others.",
        way_out="add a BucketServerSideEncryptionConfiguration for the bucket",
        check_stack=encrypted_buckets,
    ),
    Rule(
        name="private-buckets",
        description="No S3 bucket can be made public.",
        why="One wrong policy statement would publish code and compiled models.",
        way_out="add a BucketPublicAccessBlock with all four settings, and no public access list",
        check_stack=private_buckets,
    ),
    Rule(
        name="no-plain-secrets",
        description="Secrets are Pulumi secrets, never plain text.",
        why="Plain text stands in the state file, in previews and in this report.",
        way_out="take the value from a secret configuration key, or wrap it in pulumi.Output.secret",
        check=no_plain_secrets,
        graph_only=True,
    ),
]

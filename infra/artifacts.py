"""What the stack stores in its bucket: code, weights and compiled models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra import aws_config, iam
from infra.bucket_layout import COMPILE_CACHE_PREFIX, RAY_SERVICE_ACCOUNT, BucketLayout

# Long enough to notice that something was overwritten or deleted by mistake.
_OLD_VERSION_DAYS = 30
# No upload takes this long, so what is left of one is litter.
_BROKEN_UPLOAD_DAYS = 7


@dataclass(frozen=True)
class ArtifactsArgs:
    """`namespaces` are those with Ray pods; in each the service account `ray` gets the bucket's role."""

    config: aws_config.Artifacts
    layout: BucketLayout
    cluster_name: pulumi.Input[str]
    namespaces: Sequence[str]
    tags: Mapping[str, str]


class Artifacts(pulumi.ComponentResource):
    """The stack's own storage, which goes with the stack whatever is in it.

    - Bucket, with its ownership controls, public access block, encryption, versioning, lifecycle rules, and
      the policy that refuses plain HTTP
    - One object an app: the zip with its code
    - IAM role for Ray's pods with its policy, and an EKS Pod Identity association a namespace
    """

    def __init__(self, name: str, args: ArtifactsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("neuron-serve:infra:Artifacts", name, None, opts)
        self._name = name
        self._tags = {**args.tags, "Name": name}
        bucket = self._bucket(args)
        settings = self._settings(bucket)
        code = self._code(args, bucket, settings)
        role, policy = self._role(args, bucket)
        self._associations = self._pod_identities(args, role)
        self._for_every_ray_pod = [*settings, *code, policy]
        self.register_outputs({})

    def needed_in(self, namespace: str) -> list[pulumi.Resource]:
        """What Ray's pods in a namespace need before they start and until they are gone.

        A pod that is admitted before its association exists gets no credentials, and Ray then asks S3 as
        anybody.
        """
        return [self._associations[namespace], *self._for_every_ray_pod]

    def _bucket(self, args: ArtifactsArgs) -> aws.s3.Bucket:
        return aws.s3.Bucket(
            self._name,
            bucket=args.layout.bucket_name,
            # S3 refuses to delete a bucket that is not empty, and all that is in it is the stack's.
            force_destroy=True,
            tags=self._tags,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _settings(self, bucket: aws.s3.Bucket) -> list[pulumi.Resource]:
        own = pulumi.ResourceOptions(parent=self)
        private = aws.s3.BucketPublicAccessBlock(
            self._name,
            bucket=bucket.bucket,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=own,
        )
        ownership = aws.s3.BucketOwnershipControls(
            self._name, bucket=bucket.bucket, rule={"object_ownership": "BucketOwnerEnforced"}, opts=own
        )
        encryption = aws.s3.BucketServerSideEncryptionConfiguration(
            self._name,
            bucket=bucket.bucket,
            rules=[{"apply_server_side_encryption_by_default": {"sse_algorithm": "AES256"}}],
            opts=own,
        )
        versioning = aws.s3.BucketVersioning(
            self._name, bucket=bucket.bucket, versioning_configuration={"status": "Enabled"}, opts=own
        )
        policy = aws.s3.BucketPolicy(
            self._name,
            bucket=bucket.bucket,
            policy=tls_only(bucket.arn),
            # S3 refuses two changes of a bucket's access at a time.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[private, ownership]),
        )
        lifecycle = self._lifecycle(bucket, versioning)
        return [private, ownership, encryption, versioning, policy, lifecycle]

    def _lifecycle(
        self, bucket: aws.s3.Bucket, versioning: aws.s3.BucketVersioning
    ) -> aws.s3.BucketLifecycleConfiguration:
        return aws.s3.BucketLifecycleConfiguration(
            self._name,
            bucket=bucket.bucket,
            rules=[
                {
                    "id": "old-versions",
                    "status": "Enabled",
                    "filter": {"prefix": ""},
                    "noncurrent_version_expiration": {"noncurrent_days": _OLD_VERSION_DAYS},
                    "expiration": {"expired_object_delete_marker": True},
                },
                {
                    "id": "broken-uploads",
                    "status": "Enabled",
                    "filter": {"prefix": ""},
                    "abort_incomplete_multipart_upload": {"days_after_initiation": _BROKEN_UPLOAD_DAYS},
                },
            ],
            # Old versions are of no account before there are versions.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[versioning]),
        )

    def _code(
        self, args: ArtifactsArgs, bucket: aws.s3.Bucket, settings: Sequence[pulumi.Resource]
    ) -> list[pulumi.Resource]:
        return [
            aws.s3.BucketObjectv2(
                f"{self._name}-{app}-code",
                bucket=bucket.bucket,
                key=archive.key,
                source=pulumi.FileAsset(str(archive.path)),
                content_type="application/zip",
                tags=self._tags,
                opts=pulumi.ResourceOptions(
                    parent=self,
                    depends_on=list(settings),
                    # Other code is another key. The old object stays for replicas that the previous release
                    # still starts; a roll-back also makes its key anew, and deleting the old resource would
                    # then take the new object away. The objects are small and go with the bucket.
                    retain_on_delete=True,
                ),
            )
            for app, archive in args.layout.code.items()
        ]

    def _role(self, args: ArtifactsArgs, bucket: aws.s3.Bucket) -> tuple[aws.iam.Role, aws.iam.RolePolicy]:
        role = aws.iam.Role(
            f"{self._name}-ray",
            description="Pods of Ray clusters",
            assume_role_policy=iam.assumed_by_pods(),
            tags=self._tags,
            opts=pulumi.ResourceOptions(parent=self),
        )
        statements = bucket_access(bucket.arn)
        if args.config.model_bucket is not None:
            partition = aws.get_partition(opts=pulumi.InvokeOptions(parent=self)).partition
            statements += model_bucket_access(f"arn:{partition}:s3:::{args.config.model_bucket}")
        policy = aws.iam.RolePolicy(
            f"{self._name}-ray",
            role=role.name,
            policy=iam.allow(*statements),
            opts=pulumi.ResourceOptions(parent=self),
        )
        return role, policy

    def _pod_identities(self, args: ArtifactsArgs, role: aws.iam.Role) -> dict[str, pulumi.Resource]:
        return {
            namespace: aws.eks.PodIdentityAssociation(
                f"{self._name}-{namespace}",
                cluster_name=args.cluster_name,
                namespace=namespace,
                service_account=RAY_SERVICE_ACCOUNT,
                role_arn=role.arn,
                tags=self._tags,
                opts=pulumi.ResourceOptions(parent=self),
            )
            for namespace in args.namespaces
        }


def bucket_access(bucket_arn: pulumi.Input[str]) -> list[iam.Statement]:
    """What Ray's pods may do in the stack's bucket. They may not change the code that they will run."""
    compile_cache = pulumi.Output.concat(bucket_arn, f"/{COMPILE_CACHE_PREFIX}/*")
    return [
        iam.Statement(
            why="Ray downloads the app's code, replicas read weights and what the compiler kept",
            actions=["s3:GetObject"],
            resources=[pulumi.Output.concat(bucket_arn, "/*")],
        ),
        iam.Statement(
            why="the first replica of a model compiles it for all that follow",
            actions=["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
            resources=[compile_cache],
        ),
        iam.Statement(
            why="the compile cache is listed, and without this a missing object looks like a forbidden one",
            actions=["s3:ListBucket"],
            resources=[bucket_arn],
        ),
    ]


def model_bucket_access(bucket_arn: str) -> list[iam.Statement]:
    """What Ray's pods may do in a bucket that is the user's: read."""
    return [
        iam.Statement(why="replicas read weights", actions=["s3:GetObject"], resources=[f"{bucket_arn}/*"]),
        iam.Statement(
            why="weights are many files, found by their prefix",
            actions=["s3:ListBucket"],
            resources=[bucket_arn],
        ),
    ]


def tls_only(bucket_arn: pulumi.Input[str]) -> pulumi.Output[str]:
    """A bucket policy that grants nothing and refuses every request over plain HTTP."""
    return pulumi.Output.json_dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": "TlsOnly",
                    "Effect": "Deny",
                    "Principal": "*",
                    "Action": "s3:*",
                    "Resource": [bucket_arn, pulumi.Output.concat(bucket_arn, "/*")],
                    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                }
            ],
        }
    )

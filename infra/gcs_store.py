"""The store of Ray's head (its GCS, the global control service) on AWS: a replicated Redis or Valkey."""

from __future__ import annotations

import secrets as random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra import gcs_store_config, versions
from infra.drawn_secret import kept_once_drawn

_PORT = 6379


@dataclass(frozen=True)
class GcsStoreArgs:
    """`client_security_group_id` is the group of the pods that may connect.

    `auth_token` is the password; one is drawn, once, where it is None.
    """

    config: gcs_store_config.GcsStore
    vpc_id: pulumi.Input[str]
    subnet_ids: Sequence[pulumi.Input[str]]
    client_security_group_id: pulumi.Input[str]
    auth_token: pulumi.Output[str] | None
    tags: Mapping[str, str]


class GcsStore(pulumi.ComponentResource):
    """What survives the death of a Ray head, and of a zone.

    - ElastiCache subnet group, over all private subnets
    - Security group, and the rule that admits Ray's pods to it and nothing else. It has no rule for the way
      out: answers to what was admitted need none, and the store calls nobody
    - ElastiCache parameter group
    - ElastiCache replication group: Multi-AZ, encrypted at rest and in transit, behind a password
    """

    port: int = _PORT
    address: pulumi.Output[str]
    """For KubeRay: `rediss://HOST:PORT`, the primary wherever it is."""
    auth_token: pulumi.Output[str]
    """Password, secret."""
    resources: list[pulumi.Resource]
    """What a Ray cluster needs until it is gone: at its end it removes its keys from the store."""

    def __init__(self, name: str, args: GcsStoreArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("neuron-serve:infra:GcsStore", name, None, opts)
        self._name = name
        self._tags = {**args.tags, "Name": name}
        security_group, rule = self._security_group(args)
        group = self._replication_group(
            args, self._subnet_group(args), security_group, self._parameters(args)
        )
        self.address = pulumi.Output.concat("rediss://", group.primary_endpoint_address, f":{_PORT}")
        # The group's own output, not what was drawn: it is the first draw, for ever.
        self.auth_token = pulumi.Output.secret(group.auth_token.apply(str))
        self.resources = [group, rule]
        self._members = group.member_clusters
        self.register_outputs({"address": self.address})

    def node(self, index: int) -> pulumi.Output[str]:
        """Id of a node's cache cluster, the first one's with 0."""
        # A preview knows the nodes there are, and perhaps fewer than there will be.
        return self._members.apply(lambda ids: sorted(ids)[min(index, len(ids) - 1)])

    def _subnet_group(self, args: GcsStoreArgs) -> aws.elasticache.SubnetGroup:
        return aws.elasticache.SubnetGroup(
            self._name,
            description="Private subnets of the stack",
            subnet_ids=args.subnet_ids,
            tags=self._tags,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _security_group(
        self, args: GcsStoreArgs
    ) -> tuple[aws.ec2.SecurityGroup, aws.vpc.SecurityGroupIngressRule]:
        group = aws.ec2.SecurityGroup(
            self._name,
            description="State of Ray heads",
            vpc_id=args.vpc_id,
            tags=self._tags,
            opts=pulumi.ResourceOptions(parent=self),
        )
        rule = aws.vpc.SecurityGroupIngressRule(
            self._name,
            description="Ray heads",
            security_group_id=group.id,
            referenced_security_group_id=args.client_security_group_id,
            ip_protocol="tcp",
            from_port=_PORT,
            to_port=_PORT,
            tags=self._tags,
            opts=pulumi.ResourceOptions(parent=self),
        )
        return group, rule

    def _parameters(self, args: GcsStoreArgs) -> aws.elasticache.ParameterGroup:
        return aws.elasticache.ParameterGroup(
            self._name,
            description="A store, not a cache",
            family=parameter_group_family(args.config.engine, engine_version(args.config)),
            # A cache makes room by dropping keys; here a key less is a cluster that does not come back.
            parameters=[{"name": "maxmemory-policy", "value": "noeviction"}],
            tags=self._tags,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _replication_group(
        self,
        args: GcsStoreArgs,
        subnet_group: aws.elasticache.SubnetGroup,
        security_group: aws.ec2.SecurityGroup,
        parameters: aws.elasticache.ParameterGroup,
    ) -> aws.elasticache.ReplicationGroup:
        return aws.elasticache.ReplicationGroup(
            self._name,
            description="State of Ray heads",
            engine=args.config.engine,
            engine_version=engine_version(args.config),
            # The version is the stack file's: one that AWS raised could not be lowered to it again.
            auto_minor_version_upgrade=False,
            node_type=args.config.node_type,
            num_cache_clusters=args.config.nodes,
            multi_az_enabled=True,
            automatic_failover_enabled=True,
            # KubeRay's documentation covers a single shard only.
            cluster_mode="disabled",
            port=_PORT,
            parameter_group_name=parameters.name,
            subnet_group_name=subnet_group.name,
            security_group_ids=[security_group.id],
            at_rest_encryption_enabled=True,
            transit_encryption_enabled=True,
            auth_token=args.auth_token or pulumi.Output.secret(random.token_hex(32)),
            # A new password is added to the old one, so that heads that still have the old one live on.
            auth_token_update_strategy="ROTATE",  # noqa: S106 - not a password
            # Daily ones, which go with the group. A final one would stay, and block the next destroy with its
            # name.
            snapshot_retention_limit=args.config.snapshot_retention_days,
            # `up` is done when the change is, not in some maintenance window.
            apply_immediately=True,
            tags=self._tags,
            opts=pulumi.ResourceOptions(
                parent=self,
                ignore_changes=kept_once_drawn(args.auth_token, "auth_token"),
            ),
        )


def engine_version(store: gcs_store_config.GcsStore) -> str:
    """Version of the engine that the stack file asks for, or the one it gets without asking."""
    return store.engine_version or versions.ELASTICACHE[store.engine][0]


def parameter_group_family(engine: str, version: str) -> str:
    """Family of the engine's parameters, for example `redis7`.

    (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/ParameterGroups.Engine.html)
    """
    return f"{engine}{version.partition('.')[0]}"

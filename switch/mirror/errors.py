"""Why a mirror stops. Each is final: the process leaves at once, without another write."""


class MirrorError(Exception):
    """Anything the mirror cannot go on from. Its text tells an operator what was found and what was expected."""


class Fenced(MirrorError):
    """This incarnation's fence was advanced by somebody else: an heir or a newer incarnation acts for it now."""


class FenceMissing(MirrorError):
    """This node's fence is gone although it was there: etcd's data was lost, replaced or tampered with."""


class ForeignCluster(MirrorError):
    """An endpoint belongs to another etcd cluster than the one this mirror started with."""


class RevisionWentBack(MirrorError):
    """etcd answered from before what was already applied: its data was restored from a backup or lost."""


class LogBroken(MirrorError):
    """What is in etcd cannot be a log written by the pair: a hole, a key that is none, an unexpected value."""


class Unsealable(MirrorError):
    """A value cannot be opened: no such key in the key file, or altered, or moved to another path."""


class Unavailable(Exception):
    """No endpoint answered in time. Not final: the same can be tried again."""


class ProposalTooLarge(ValueError):
    """A proposal that no entry can hold: its maker's affair, the log goes on."""

"""What each page shows. Handlers fill these in, templates read them; identity data arrives already masked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Requester:
    """The relying party that asks. `level` is the assurance level it needs, 0 when it named none."""

    name: str
    level: int
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginPage:
    """`kind` is `person` or `org`; `error` a key of LOGIN_ERRORS or ""; `reason` a key of LOGIN_REASONS or ""."""

    requester: Requester | None
    kind: str
    identifier: str = ""
    organization: str = ""
    error: str = ""
    reason: str = ""
    own_address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentItem:
    """One scope with the masked value that it would hand over, "" when it hands over none."""

    scope: str
    value: str
    more: bool = False  # new, or more than what was agreed to before


@dataclass(frozen=True, slots=True, kw_only=True)
class TermsChange:
    """What differs from the agreement before. `what` is a key of TERMS; `after` is a scope or a registered value."""

    what: str
    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentPage:
    """`acting` is the name of the organization, "" for oneself; `optional` are items that are ticked to be given.

    `kept` are scopes that were agreed to before and go on; `since` (epoch seconds, 0 for none) is when that was, and
    `changes` is what differs now. `version` names the terms shown; `again` says that they changed just now.
    `logo` is a path of ours; `policy_uri` and `tos_uri` are shown only when they are web addresses.
    """

    requester: Requester
    purpose: str = ""
    policy_uri: str = ""
    tos_uri: str = ""
    logo: str = ""
    operator: str = ""
    acting: str
    can_switch: bool
    items: Sequence[ConsentItem]
    optional: Sequence[ConsentItem] = ()
    kept: Sequence[str] = ()
    changes: Sequence[TermsChange] = ()
    since: int = 0
    version: str = ""
    again: bool = False
    valid_days: int
    return_host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfChoice:
    """The person: masked name and number, and the type of the number."""

    name: str
    number: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationChoice:
    """A mandate (`id`). `scope` is "*" or item codes parted by blanks, `until` epoch seconds, None without end."""

    id: str
    name: str
    uscc: str
    role: str
    scope: str
    until: int | None
    expired: bool
    chosen: bool = False  # the person typed this very credit code when signing in


@dataclass(frozen=True, slots=True, kw_only=True)
class ActingPage:
    """`error` is `acting_missing` or ""."""

    requester: Requester
    self_choice: SelfChoice
    organizations: Sequence[OrganizationChoice]
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutPage:
    """`services` are names; `parameters` go along with the form and come back with it."""

    services: Sequence[str]
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceState:
    """`state` is `told`, `pending` or `none` (no answer, or no way to tell it)."""

    name: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedOutPage:
    services: Sequence[ServiceState]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorPage:
    """`code` is the bare ASCII code for machines, `words` a key of ERRORS."""

    code: str
    trace_id: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountPage:
    """`type` is the type of `number`; `since` (epoch seconds) is when the account was opened."""

    name: str
    number: str
    type: str
    phone: str
    level: int
    since: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """A signed-in browser or device. `since` and `last` are epoch seconds, `services` names."""

    id: str
    device: str
    channel: str
    address: str
    since: int
    last: int
    services: Sequence[str]
    current: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PermissionRow:
    """What one client may know. `acting` are names of organizations, "" for oneself; times are epoch seconds.

    `state` is `active` or `ending` (soon); `last` may be None.
    """

    client_id: str
    name: str
    purpose: str
    policy_uri: str
    scopes: Sequence[str]
    acting: Sequence[str]
    since: int
    until: int
    last: int | None
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PastPermission:
    """An agreement that has ended. `reason` is `withdrawn` or `replaced`."""

    name: str
    scopes: Sequence[str]
    since: int
    ended: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PermissionsPage:
    """`name` is the masked name of the person, `withdrawn` the client whose permission was just taken back, or ""."""

    name: str
    permissions: Sequence[PermissionRow]
    past: Sequence[PastPermission] = ()
    withdrawn: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawPage:
    name: str
    permission: PermissionRow


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRow:
    """One sign-in, or `count` failures in a row, the earliest at `first`. `address` is masked, "" when unknown.

    `methods` are keys of METHODS, `device` is coarse and "" when unknown, `client` a name or "".
    """

    at: int
    event: str
    refused: bool
    channel: str
    methods: Sequence[str]
    client: str
    device: str
    address: str
    by_staff: bool = False
    current: bool = False
    count: int = 1
    first: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPage:
    """`older` is the cursor of the page after this one, "" at the end; `first` says that this is the newest page."""

    name: str
    rows: Sequence[HistoryRow]
    older: str = ""
    first: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionsPage:
    """`name` is the masked name of the person."""

    name: str
    sessions: Sequence[SessionRow]

"""A picture book of all pages, with made-up data: `python -m tests.ui.preview [port]`.

Then look at it, or let `check_ui.py` look: `--paths tests/ui/paths.txt`. Every person, number and organization is
invented. Display modes are the cookies that the form in each header sets, or `?lang=en&care=1&theme=dark`.
"""

import sys
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from idp.errors import NotFound
from idp.pages.values import (
    AccountPage,
    ActingPage,
    ConsentItem,
    ConsentPage,
    ErrorPage,
    HistoryPage,
    HistoryRow,
    LoggedOutPage,
    LoginPage,
    LogoutPage,
    OrganizationChoice,
    PastPermission,
    PermissionRow,
    PermissionsPage,
    Requester,
    SelfChoice,
    ServiceState,
    SessionRow,
    SessionsPage,
    TermsChange,
    WithdrawPage,
)
from idp.pages.view import ERRORS, View, pick_locale

ISSUER = "https://id.example.gov.cn"
FUND = Requester(name="示例市住房公积金服务", level=3, host="gjj.example.gov.cn")
INSURANCE = Requester(name="示例市企业社保缴费", level=0, host="si.example.gov.cn")
ME = SelfChoice(name="张*例", number="4499**********001X", type="cid")
MORNING = 1_795_305_120  # 2026-11-22 07:52 in Beijing


def organization(number: int, name: str, role: str, scope: str = "*", **changes: Any) -> OrganizationChoice:
    values = {"until": None, "expired": False, "chosen": False, **changes}
    return OrganizationChoice(
        id=f"00000000-0000-4000-8000-{number:012d}",
        name=name,
        uscc=f"9144{number:02d}**********3Q",
        role=role,
        scope=scope,
        **values,
    )


def session(number: int, device: str, channel: str, services: list[str], *, current: bool = False) -> SessionRow:
    return SessionRow(
        id=f"00000000-0000-4000-8000-{number:012d}",
        device=device,
        channel=channel,
        address=f"2001:db8:85a3:8d3:1319:8a2e:370:{7340 + number}" if number == 3 else f"198.51.100.{number}",
        since=MORNING + 1_200 * number,
        last=MORNING + 1_500 * number,
        services=services,
        current=current,
    )


class Shown(NamedTuple):
    """A page of the book: template, what it shows, and what else `View.render` wants to know."""

    template: str
    page: Any
    leads_to_client: bool = False
    interaction: str = ""
    status: int = 200


def login(**changes: Any) -> Shown:
    values = {"requester": FUND, "kind": "person", "own_address": "id.example.gov.cn", **changes}
    status = 400 if changes.get("error") else 200
    return Shown("login.html", LoginPage(**values), True, "demo" if values["requester"] else "", status)


def consent(**changes: Any) -> Shown:
    values = {
        "requester": FUND,
        "policy_uri": "https://gjj.example.gov.cn/privacy",
        "tos_uri": "https://gjj.example.gov.cn/terms",
        "acting": "",
        "can_switch": True,
        "items": [
            ConsentItem(scope="profile", value="张*例"),
            ConsentItem(scope="identity_number", value="4499**********001X"),
            ConsentItem(scope="offline_access", value=""),
        ],
        "valid_days": 180,
        "return_host": "gjj.example.gov.cn",
        **changes,
    }
    return Shown("consent.html", ConsentPage(**values), True, "demo")


def acting(*, chosen: bool = False, **changes: Any) -> Shown:
    organizations = [
        organization(1, "示例科技有限公司", "legal_representative"),
        organization(2, "示例商贸行", "agent", "social-insurance tax", until=MORNING + 11_000_000, chosen=chosen),
        organization(3, "示例建材经营部", "administrator", until=MORNING - 1_900_000, expired=True),
    ]
    values = {"requester": INSURANCE, "self_choice": ME, "organizations": organizations, **changes}
    return Shown("acting.html", ActingPage(**values), True, "demo", 400 if changes.get("error") else 200)


def sessions(count: int) -> Shown:
    rows = [
        session(1, "Windows, Edge", "web_hall", ["住房公积金服务", "社会保险服务"], current=True),
        session(2, "Android, WeChat", "mobile", ["社会保险服务"]),
        session(3, "", "kiosk", []),
    ]
    return Shown("account_sessions.html", SessionsPage(name="张*例", sessions=rows[:count]))


def permission(number: int, name: str, scopes: str, **changes: Any) -> PermissionRow:
    values = {
        "purpose": "",
        "policy_uri": "",
        "acting": [""],
        "since": MORNING - 9_000_000,
        "until": MORNING + 6_500_000,
        "last": MORNING - 3_600,
        "state": "active",
        **changes,
    }
    return PermissionRow(client_id=f"c{number:020x}", name=name, scopes=scopes.split(), **values)


FUND_PERMISSION = permission(
    1,
    FUND.name,
    "openid profile identity_number phone offline_access",
    purpose="办理住房公积金提取",
    policy_uri="https://gjj.example.gov.cn/privacy",
)
PERMISSIONS = [
    FUND_PERMISSION,
    permission(
        2, INSURANCE.name, "openid organization", acting=["", "示例科技有限公司", "示例商贸行"], state="ending",
        until=MORNING + 600_000,
    ),
    permission(3, "示例市不动产登记", "openid", last=None, state="ending", until=MORNING + 86_400),
]  # fmt: skip
PAST = [
    PastPermission(
        name="示例市图书馆", scopes=["openid", "profile"], since=MORNING - 9_000_000, ended=MORNING - 90_000,
        reason="withdrawn",
    ),
    PastPermission(
        name=FUND.name, scopes=["openid"], since=MORNING - 9_900_000, ended=MORNING - 9_000_000, reason="replaced"
    ),
]  # fmt: skip


def act(minutes: int, event: str, **changes: Any) -> HistoryRow:
    values = {
        "refused": False,
        "channel": "web_hall",
        "methods": ["pwd"],
        "client": FUND.name,
        "device": "Windows, Edge",
        "address": "198.51.*.*",
        **changes,
    }
    return HistoryRow(at=MORNING - 60 * minutes, event=event, **values)


HISTORY = [
    act(5, "session:login:started", current=True),
    act(90, "session:login:started", channel="kiosk", methods=["otp", "face"], device="", address="", client=""),
    act(1_400, "session:login:refused", refused=True, methods=["password"], device="", count=3,
        first=MORNING - 91_000, address="2001:db8:85a3:*"),
    act(1_500, "session:login:refused", refused=True, methods=["password"], device="Android, WeChat", client=""),
    act(2_900, "counter:person:viewed", channel="counter", methods=[], client="", device="", address="",
        by_staff=True),
    act(3_000, "account:person:unlocked", channel="service", methods=[], client="", device="", address="",
        by_staff=True),
]  # fmt: skip


def account(level: int, **changes: Any) -> Shown:
    values = {"name": "张*例", "number": ME.number, "type": "cid", "phone": "138****0000", **changes}
    return Shown("account.html", AccountPage(level=level, since=MORNING, **values))


SERVICES = ["住房公积金服务", "社会保险服务", "不动产登记"]
STATES = [
    ServiceState(name=name, state=state) for name, state in zip(SERVICES, ("told", "pending", "none"), strict=True)
]
PAGES: dict[str, Shown] = {
    "/login": login(),
    "/login/plain": login(requester=None),
    "/login/org": login(kind="org"),
    "/login/again": login(requester=INSURANCE, reason="prompt_login", identifier="4499 0119 9003 0700 1X"),
    "/login/old": login(reason="max_age"),
    "/login/failed": login(error="login_failed", identifier="138 0000 0000"),
    "/login/no-identifier": login(error="identifier_missing"),
    "/login/no-password": login(error="password_missing", identifier="zhang"),
    "/login/bad-code": login(kind="org", error="uscc_bad", organization="91440101MA000001O1"),
    "/consent": consent(),
    "/consent/organization": consent(
        requester=INSURANCE,
        acting="示例科技有限公司",
        items=[ConsentItem(scope="organization", value="示例科技有限公司")],
        optional=[ConsentItem(scope="phone", value="138****0000")],
        operator="示例市社会保险基金管理局",
        tos_uri="javascript:alert(1)",
    ),
    "/consent/nothing": consent(items=[], can_switch=False, policy_uri="", tos_uri=""),
    "/consent/again": consent(
        again=True,
        purpose="办理住房公积金提取",
        since=MORNING - 9_000_000,
        kept=["email", "address"],
        items=[ConsentItem(scope="profile", value="张*例"), ConsentItem(scope="phone", value="138****0000", more=True)],
        changes=[
            TermsChange(what="client_name", before="示例市公积金中心", after=FUND.name),
            TermsChange(what="purpose_new", after="办理住房公积金提取"),
            TermsChange(what="purpose", before="办理住房公积金", after="办理住房公积金提取"),
            TermsChange(what="policy_uri", before="", after="https://gjj.example.gov.cn/privacy-2027-for-all-people"),
            TermsChange(what="tos_uri_gone", before="https://gjj.example.gov.cn/terms"),
            TermsChange(what="text"),
            TermsChange(what="scope", after="phone"),
            TermsChange(what="wider", after="profile"),
        ],
        version="9c" * 32,
    ),
    "/acting": acting(),
    "/acting/chosen": acting(chosen=True),
    "/acting/missing": acting(error="acting_missing"),
    "/acting/alone": acting(organizations=[], self_choice=SelfChoice(name="张*例", number="", type="")),
    "/logout": Shown("logout.html", LogoutPage(services=SERVICES, parameters={"state": "a"}), True),
    "/logout/one": Shown("logout.html", LogoutPage(services=SERVICES[:1]), True),
    "/logout/none": Shown("logout.html", LogoutPage(services=[]), True),
    "/logged-out": Shown("logged_out.html", LoggedOutPage(services=STATES)),
    "/logged-out/none": Shown("logged_out.html", LoggedOutPage(services=[])),
    "/account": account(3),
    "/account/one": account(1, number="", type="", phone=""),
    "/account/five": account(5, number="H1*****01", type="hkmo_permit"),
    "/account/sessions": sessions(3),
    "/account/sessions/one": sessions(1),
    "/account/permissions": Shown(
        "account_permissions.html",
        PermissionsPage(name="张*例", permissions=PERMISSIONS, past=PAST, withdrawn="示例市图书馆"),
    ),
    "/account/permissions/none": Shown("account_permissions.html", PermissionsPage(name="张*例", permissions=[])),
    "/account/permissions/withdraw": Shown(
        "account_withdraw.html", WithdrawPage(name="张*例", permission=FUND_PERMISSION)
    ),
    "/account/history": Shown(
        "account_history.html",
        HistoryPage(name="张*例", rows=HISTORY, older="1795305120-00000000000040008000000000000001"),
    ),
    "/account/history/end": Shown("account_history.html", HistoryPage(name="张*例", rows=HISTORY[:1], first=False)),
    "/account/history/none": Shown("account_history.html", HistoryPage(name="张*例", rows=[])),
    **{
        f"/error/{words}": Shown(
            "error.html", ErrorPage(code=words, trace_id="7f3a-91c2-0b4e", words=words), status=400
        )
        for words in ERRORS
    },
}


def render(view: View, path: str, *, locale: str = "zh-CN", care: int = 0, theme: str = "auto") -> Response:
    """One page of the book."""
    shown = PAGES[path]
    return view.render(
        shown.template,
        locale=locale,
        care=care,
        theme=theme,
        here=path,
        csrf="c5f0",
        leads_to_client=shown.leads_to_client,
        status=shown.status,
        page=shown.page,
        interaction=shown.interaction,
    )


def application(view: View) -> Starlette:
    """The book as a server. Forms lead back to where they stand."""

    async def show(request: Request) -> Response:
        def choice(name: str, default: str) -> str:
            return request.query_params.get(name) or request.cookies.get("yimen_" + name) or default

        locale = pick_locale("", "", choice("lang", "zh"))
        care, theme = int(choice("care", "0")), choice("theme", "light")
        return render(view, request.url.path, locale=locale, care=care, theme=theme)

    async def prefs(request: Request) -> Response:
        form = await request.form()
        response = RedirectResponse(str(form["back"]), 303)
        for name in form.keys() & {"care", "lang", "theme"}:
            response.set_cookie("yimen_" + name, str(form[name]))
        return response

    async def static(request: Request) -> Response:
        try:
            return view.static_file(request.url.path)
        except NotFound:
            return Response(status_code=404)

    async def start(request: Request) -> Response:
        return RedirectResponse("/login")

    async def act(request: Request) -> Response:
        return RedirectResponse(request.url.path, 303)

    return Starlette(
        routes=[
            Route("/", start),
            Route("/prefs", prefs, methods=["POST"]),
            Route("/static/{file}", static),
            *[Route(path, show) for path in PAGES],
            Route("/{path:path}", act, methods=["POST"]),
        ]
    )


if __name__ == "__main__":
    import uvicorn

    book = View(issuer=ISSUER, production=False)
    uvicorn.run(application(book), host="127.0.0.1", port=int(sys.argv[1]) if sys.argv[1:] else 8765)

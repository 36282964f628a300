"""Words for what the program knows by a key: errors, scopes, roles, levels, channels, documents."""

from collections.abc import Mapping
from typing import NamedTuple

from idp.pages.catalogue import N_


class ErrorWords(NamedTuple):
    """What happened, why as far as it is safe to say, and what to do next."""

    title: str
    text: str
    steps: tuple[str, ...]


class Words(NamedTuple):
    """A name and a sentence about it."""

    label: str
    why: str


class Fault(NamedTuple):
    """A sentence, and the id of the element that it is about."""

    field: str
    text: str


LANGUAGES: Mapping[str, str] = {"zh": "中文", "en": "English"}  # each named in itself

_CALL = N_("拨打 12345，或到就近政务大厅窗口，并告诉对方下面的编号。")
_FROM_SERVICE = N_("回到您要办事的系统，从那里重新登录。")
_WRONG_SERVICE = ErrorWords(
    N_("该系统的接入信息有误"),
    N_("它发来的信息与登记的不一致。为保护您，我们没有跳转，也没有提供您的任何信息。"),
    (N_("请联系该系统的主办单位，并告诉对方下面的编号。"), _CALL),
)

ERRORS: Mapping[str, ErrorWords] = {
    "client_unknown": _WRONG_SERVICE,
    "redirect_uri_mismatch": _WRONG_SERVICE,
    "invalid_request": ErrorWords(
        N_("请求有误"),
        N_("这个页面收到的内容不完整或不正确，操作没有完成。"),
        (_FROM_SERVICE, _CALL),
    ),
    "interaction_expired": ErrorWords(
        N_("这次登录已经失效"),
        N_("登录要在 30 分钟内、在同一个浏览器里完成。可能是时间过长，或者这次登录已经办完。"),
        (_FROM_SERVICE, _CALL),
    ),
    "csrf_failed": ErrorWords(
        N_("表单已经过期"),
        N_("页面打开得太久，或者您在别的窗口登录过。操作没有完成。"),
        (N_("返回上一页，刷新后再提交一次。"), N_("如果仍然不行，请检查浏览器是否允许 Cookie。"), _CALL),
    ),
    "forbidden": ErrorWords(
        N_("您没有权限进行这项操作"),
        N_("您的账户没有这项权限，操作没有完成。"),
        (N_("如果您认为应当有权限，请联系您的单位或该系统的主办单位。"), _CALL),
    ),
    "not_found": ErrorWords(
        N_("没有找到这个页面"),
        N_("地址可能有误，或者页面已经不在。"),
        (N_("请检查地址，或回到您要办事的系统。"), _CALL),
    ),
    "method_not_allowed": ErrorWords(
        N_("这个地址不能这样打开"),
        N_("请从页面上的按钮进入，不要直接打开地址。"),
        (_FROM_SERVICE, _CALL),
    ),
    "too_large": ErrorWords(
        N_("提交的内容过大"),
        N_("内容超过了允许的大小，操作没有完成。"),
        (N_("请减少内容后再试。"), _CALL),
    ),
    "server_error": ErrorWords(
        N_("系统繁忙"),
        N_("系统繁忙，您的操作没有完成，请稍后再试。"),
        (N_("请过几分钟再试一次。"), _CALL),
    ),
    "too_many_requests": ErrorWords(
        N_("尝试的次数太多"),
        N_("从您所在的网络来的尝试太多，暂时不能再试。您的账户没有受到影响。"),
        (N_("请等几分钟，或换一个网络再试。"), N_("急需办理的，请到就近政务大厅窗口。"), _CALL),
    ),
    "temporarily_unavailable": ErrorWords(
        N_("系统暂时不能使用"),
        N_("系统正忙或正在维护，您的操作没有完成，请稍后再试。"),
        (N_("请过几分钟再试一次。"), N_("急需办理的，请到就近政务大厅窗口。"), _CALL),
    ),
    "access_denied": ErrorWords(
        N_("没有获得同意"),
        N_("您选择了不同意，我们没有提供您的任何信息。"),
        (N_("如果要继续办理，请回到该系统重新登录并选择同意。"), _CALL),
    ),
}

# One sentence for an unknown account, a locked one and a wrong password: existence is not disclosed.
LOGIN_ERRORS: Mapping[str, Fault] = {
    "login_failed": Fault(
        "login-identifier",
        N_("账号或密码不对。连续输错会暂停一段时间，可稍后再试、换一种方式，或到窗口办理"),
    ),
    "identifier_missing": Fault("login-identifier", N_("请输入身份证号、手机号或用户名")),
    "password_missing": Fault("login-password", N_("请输入密码")),
    "uscc_bad": Fault("login-organization", N_("统一社会信用代码有误，请对照营业执照检查")),
}
LOGIN_REASONS: Mapping[str, str] = {
    "prompt_login": N_("您已经登录。该系统要求再确认一次是您本人，请重新登录。"),
    "level": N_("该系统要求的实名等级高于您本次登录的等级，请重新登录。"),
    "max_age": N_("距您上次登录已有一段时间，该系统要求重新登录。"),
}
ACTING_ERRORS: Mapping[str, Fault] = {"acting_missing": Fault("acting-self", N_("请选择以谁的名义办理"))}

SCOPES: Mapping[str, Words] = {
    "openid": Words(N_("账户代号"), N_("只在该系统内使用的代号，不含您的证件号码")),
    "profile": Words(N_("基本资料"), N_("姓名，以及您登记过的性别、出生日期等，用于核对您的账户")),
    "email": Words(N_("电子邮箱"), N_("用于发送办理进度和通知")),
    "phone": Words(N_("手机号码"), N_("用于与您联系，发送办理进度")),
    "address": Words(N_("联系地址"), N_("用于寄送证照和文书")),
    "offline_access": Words(N_("离开后继续使用"), N_("您离开后，该系统仍可取得这里列出的信息，直到授权结束")),
    "identity": Words(N_("实名信息"), N_("真实姓名、遮盖后的证件号码和实名等级，用于确认您的身份")),
    "identity_number": Words(N_("完整证件号码"), N_("该系统依法需要完整的号码，用于调取您的记录")),
    "organization": Words(N_("代表的单位"), N_("单位名称、统一社会信用代码、您的职务和授权；以本人名义办理时不提供")),
}
# what differs between what was agreed to and what is asked now
TERMS: Mapping[str, str] = {
    "client_name": N_("系统名称由“%(before)s”改为“%(after)s”"),
    "purpose": N_("用途由“%(before)s”改为“%(after)s”"),
    "purpose_new": N_("写明了用途：%(after)s"),
    "purpose_gone": N_("不再写明用途"),
    "policy_uri": N_("隐私政策改为 %(after)s"),
    "policy_uri_gone": N_("不再提供隐私政策的网址"),
    "tos_uri": N_("服务条款改为 %(after)s"),
    "tos_uri_gone": N_("不再提供服务条款的网址"),
    "text": N_("本页的说明有更新"),
    "scope": N_("新增一项信息：%(after)s"),
    "wider": N_("这项信息的内容比以前多：%(after)s"),
}
ROLES: Mapping[str, str] = {
    "legal_representative": N_("法定代表人"),
    "administrator": N_("管理员"),
    "agent": N_("经办人"),
}
PAST: Mapping[str, str] = {"withdrawn": N_("已收回"), "replaced": N_("已由新的同意代替")}
# acts in the sign-in history; anything else is told by its channel
ACTS: Mapping[str, str] = {
    "session:login:started": N_("登录"),
    "session:login:refused": N_("登录失败"),
    "account:person:locked": N_("账户已停用"),
    "account:person:unlocked": N_("账户已恢复"),
    "account:password:set": N_("设置密码"),
}
COUNTER_ACT = N_("窗口办理")
# authentication methods (RFC 8176, and what refused attempts name)
METHODS: Mapping[str, str] = {
    "pwd": N_("密码"),
    "password": N_("密码"),
    "otp": N_("验证码"),
    "sms": N_("短信验证码"),
    "hwk": N_("通行密钥"),
    "swk": N_("通行密钥"),
    "face": N_("人脸核验"),
    "sc": N_("证件读卡"),
    "pin": N_("口令码"),
}
CHANNELS: Mapping[str, str] = {
    "web_hall": N_("网上大厅"),
    "counter": N_("窗口"),
    "kiosk": N_("自助终端"),
    "mobile": N_("手机"),
    "hotline": N_("热线"),
    "service": N_("系统"),
}
DOCUMENTS: Mapping[str, str] = {
    "cid": N_("公民身份号码"),
    "residence": N_("港澳台居民居住证"),
    "fpr2023": N_("外国人永久居留身份证"),
    "fpr2017": N_("外国人永久居留身份证"),
    "hkmo_permit": N_("港澳居民来往内地通行证"),
    "tw_permit": N_("台湾居民来往大陆通行证"),
    "passport_cn": N_("中国护照"),
    "passport": N_("护照"),
}
# of levels 1 to 5 (domain: assurance levels)
LEVELS: tuple[Words, ...] = (
    Words(N_("实名一级"), N_("只有手机号、邮箱或用户名")),
    Words(N_("实名二级"), N_("自己填写的姓名和号码")),
    Words(N_("实名三级"), N_("姓名、号码与人口库一致")),
    Words(N_("实名四级"), N_("实人、姓名、证件三者一致")),
    Words(N_("实名五级"), N_("窗口当面核验，或使用数字证书")),
)
NEEDED_LEVELS: tuple[str, ...] = (
    N_("本次需实名一级"),
    N_("本次需实名二级"),
    N_("本次需实名三级"),
    N_("本次需实名四级"),
    N_("本次需实名五级"),
)
SERVICE_STATES: Mapping[str, Words] = {
    "told": Words(N_("已退出"), ""),
    "pending": Words(N_("正在通知"), N_("刷新本页可以查看最新情况。")),
    "none": Words(N_("没有回应"), N_("请在该系统内再点一次退出；否则它自己的登录到期后才会结束。")),
}

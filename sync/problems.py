"""Everything that can go wrong, in one tree, each leaf with a stable code.

    Problem
    ├── EnvelopeProblem      the body of a request could not be taken; nothing was stored
    │   ├── Malformed  BodyTruncated  DigestMismatch  UnsupportedEncoding
    │   └── BatchTooLarge  EnvelopeInvalid
    ├── SignInProblem        who is asking is not known, or may not ask
    │   ├── TokenInvalid  BadCredentials  PermitInvalid  SignInThrottled
    │   └── AccountDisabled  InstallRevoked  TooManyTokens
    ├── AccessProblem        Forbidden  NotFound
    ├── AccountInvalid       an account that can't be made like this
    ├── QueryInvalid         a filter, a cursor or a field name that makes no sense
    ├── CursorExpired        a cursor of ours that nothing follows from any more
    ├── ExportProblem        FormatNotInstalled  ExportTooLarge  ExportsWaiting
    ├── PhotoProblem         PhotoDigestMismatch  PhotoTooLarge  PhotoInvalid  PhotoQuota  PhotoKept  PhotoNotShown
    ├── UploadProblem        TusVersion  UploadInvalid  UploadOffset  UploadBusy  ChecksumMismatch
    ├── ReviewProblem        DecidedMeanwhile  DecisionInvalid
    ├── IdempotencyKeyReused a key that stands for another request
    ├── ReferenceInvalid     a reference folder with errors, by file and line
    └── Busy                 nothing was stored, ask again later

The engine raises them and knows no HTTP status; `field_api/answers.py` gives each its status. What becomes of one
*operation* inside a batch is never raised: it is an outcome, and the codes it may carry are the catalogues below.
Titles are (English, Chinese); the code is the contract, the title may be improved.
"""

from __future__ import annotations

from typing import Any, ClassVar


class Problem(Exception):
    """Something the caller can understand and act upon. `details` are JSON values shown beside the code."""

    code: ClassVar[str] = "problem"
    title: ClassVar[tuple[str, str]] = ("Something went wrong", "出现问题")

    def __init__(self, detail: str | None = None, **details: Any) -> None:
        super().__init__(detail or self.title[0])
        self.detail = detail
        self.details = details


class EnvelopeProblem(Problem):
    """The body of a request could not be taken as a whole; nothing was stored."""


class Malformed(EnvelopeProblem):
    code = "malformed"
    title = ("The body is not readable JSON", "请求内容不是可读的 JSON")


class BodyTruncated(EnvelopeProblem):
    code = "body-truncated"
    title = ("The body is shorter than announced; send it again", "请求内容不完整，请重新发送")


class DigestMismatch(EnvelopeProblem):
    code = "digest-mismatch"
    title = ("The body does not match its Content-Digest", "请求内容与摘要不符")


class UnsupportedEncoding(EnvelopeProblem):
    code = "unsupported-media-type"
    title = ("This content type or encoding is not accepted here", "不支持的内容类型或编码")


class BatchTooLarge(EnvelopeProblem):
    code = "batch-too-large"
    title = ("The batch is too large; send half of it", "批次过大，请分半发送")


class EnvelopeInvalid(EnvelopeProblem):
    code = "envelope-invalid"
    title = ("A field of the request is missing or wrong", "请求的字段缺失或有误")


class SignInProblem(Problem):
    """Who is asking is not known, or may not ask."""


class TokenInvalid(SignInProblem):
    code = "token-invalid"
    title = ("Sign in again; nothing on the phone is lost", "请重新登录，手机上的记录不会丢失")


class BadCredentials(SignInProblem):
    code = "bad-credentials"
    title = ("The user name or the password is wrong", "用户名或密码错误")


class PermitInvalid(SignInProblem):
    code = "permit-invalid"
    title = ("This permit is unknown, used, or too old; ask for another", "许可码无效、已使用或已过期，请重新申请")


class SignInThrottled(SignInProblem):
    code = "sign-in-throttled"
    title = ("Too many failed sign-ins; wait a while", "登录失败次数过多，请稍后再试")


class AccountDisabled(SignInProblem):
    code = "account-disabled"
    title = ("This account is disabled", "账号已停用")


class InstallRevoked(SignInProblem):
    code = "install-revoked"
    title = ("This installation has been revoked", "该安装已被吊销")


class TooManyTokens(SignInProblem):
    code = "too-many-tokens"
    title = ("You have as many access tokens as one may; revoke one first", "访问令牌已达上限，请先撤销一个")


class AccessProblem(Problem):
    """Known, but not for this."""


class Forbidden(AccessProblem):
    code = "forbidden"
    title = ("Your role may not do this", "您的角色无权进行此操作")


class NotFound(AccessProblem):
    code = "not-found"
    title = ("There is no such thing, or not for you", "不存在，或您无权查看")


class AccountInvalid(Problem):
    code = "account-invalid"
    title = ("The account can't be made like this", "无法创建此账号")


class QueryInvalid(Problem):
    code = "query-invalid"
    title = ("A filter or cursor makes no sense", "查询条件或游标无效")

    @classmethod
    def of(cls, parameter: str, why: str, **more: Any) -> QueryInvalid:
        """One parameter is wrong, and why."""
        return cls(errors=[{"pointer": f"/{parameter}", "code": "invalid", **more, "detail": why}])


class CursorExpired(Problem):
    code = "cursor-expired"
    title = ("Begin again without a cursor", "游标已失效，请重新开始同步")


class ExportProblem(Problem):
    """A file that can't be made here."""


class FormatNotInstalled(ExportProblem):
    code = "format-not-installed"
    title = (
        "This server lacks the libraries of that format: requirements-gis.txt",
        "服务器未安装该格式所需的组件（requirements-gis.txt）",
    )


class ExportTooLarge(ExportProblem):
    code = "export-too-large"
    title = ("There are more records than this format holds", "记录数超过该格式的上限")


class ExportsWaiting(ExportProblem):
    code = "exports-waiting"
    title = ("You have as many files waiting as one account may", "待生成的导出文件已达上限")


class PhotoProblem(Problem):
    """A photo that was not kept."""


class PhotoDigestMismatch(PhotoProblem):
    code = "photo-digest-mismatch"
    title = ("The bytes are not the photo that was named", "照片内容与其摘要不符")


class PhotoTooLarge(PhotoProblem):
    code = "photo-too-large"
    title = ("The photo is too large", "照片过大")


class PhotoInvalid(PhotoProblem):
    code = "photo-invalid"
    title = ("The photo's name is not a SHA-256", "照片名称不是 SHA-256 摘要")


class PhotoQuota(PhotoProblem):
    code = "photo-quota"
    title = ("You have sent as many photos today as one officer may", "今日上传照片总量已达上限")


class PhotoKept(PhotoProblem):
    code = "photo-kept"
    title = ("The photo is complete and kept as evidence; it can't be taken back", "照片已完整保存为证据，不能撤回")


class PhotoNotShown(PhotoProblem):
    code = "photo-not-shown"
    title = ("The photo can't be shown; its bytes are kept", "照片无法显示，其原始内容已保存")


class UploadProblem(Problem):
    """A step of a resumable upload (tus 1.0.0) that could not be taken; the bytes kept before it stay."""


class TusVersion(UploadProblem):
    code = "tus-version"
    title = ("Tus-Resumable has to be 1.0.0", "Tus-Resumable 必须为 1.0.0")


class UploadInvalid(UploadProblem):
    code = "upload-invalid"
    title = ("A header of the upload is missing or wrong", "上传请求头缺失或有误")


class UploadOffset(UploadProblem):
    code = "upload-offset"
    title = ("The server holds another number of bytes; go on from there", "服务器已有的字节数不同，请从该处继续")


class UploadBusy(UploadProblem):
    code = "upload-busy"
    title = ("Another request is sending this photo; try again shortly", "该照片正由另一请求上传，请稍后再试")


class ChecksumMismatch(UploadProblem):
    code = "checksum-mismatch"
    title = ("The chunk does not match its checksum; send it again", "分块与校验和不符，请重新发送")


class ReviewProblem(Problem):
    """A decision that was not taken; nothing changed."""


class DecidedMeanwhile(ReviewProblem):
    """What the decision is about is not as its sender saw it; `details` tell how it is now."""

    code = "decided-meanwhile"
    title = ("It has changed, or was decided, meanwhile; look again", "情况已有变化或已被处理，请重新查看")


class DecisionInvalid(ReviewProblem):
    """`details["allowed"]` lists what may be decided; `details["problem"]` is what would become of the operation;
    `details["why"]` says what of the phone stands against it."""

    code = "decision-invalid"
    title = ("This can't be decided like that", "不能作出此决定")


class IdempotencyKeyReused(Problem):
    code = "idempotency-key-reused"
    title = ("This Idempotency-Key stands for another request", "该 Idempotency-Key 已用于其他请求")


class ReferenceInvalid(Problem):
    """A reference folder with errors; `details["errors"]` lists them by file and line. Nothing was loaded."""

    code = "reference-invalid"
    title = ("The reference data has errors; nothing was loaded", "基础数据有误，未加载任何内容")


class Busy(Problem):
    code = "busy"
    title = ("The server is busy; nothing was stored, send again", "服务器繁忙，未保存任何内容，请重新发送")


class Internal(Problem):
    """A bug of ours. Its insides go to the log, never to the answer."""

    code = "internal"
    title = ("Something unexpected happened; send again later", "发生意外，请稍后重新发送")


#: Why an operation is `quarantined` (stored as it came, not live) or in `conflict`: it waits for a person.
QUARANTINE: dict[str, tuple[str, str]] = {
    "invalid": ("A field is missing or wrong", "字段缺失或有误"),
    "unreadable": ("The operation is not JSON that can be kept", "操作内容不是可保存的 JSON"),
    "op-reused": ("This id was used before for something else", "该操作编号已用于其他内容"),
    "op-too-large": ("The operation is too large", "操作内容过大"),
    "unknown-kind": ("This kind of operation is not known", "未知的操作类型"),
    "unknown-township": ("This township code was never valid", "不存在的镇街代码"),
    "unknown-item": ("This enforcement item is not on any list", "执法事项不在任何清单中"),
    "unknown-event-class": ("This event class is not in that edition", "该版本中没有此事件类别"),
    "unknown-place": ("This designated place is not known", "未知的指定经营地点"),
    "record-exists": ("A record with this id was created before", "该编号的记录已存在"),
    "record-voided": ("The record was voided before", "记录已作废"),
    "wrong-record-kind": ("The record is of another kind", "记录类型不符"),
    "not-yours": ("The record belongs to another officer", "该记录属于其他执法人员"),
    "conflict": ("Another change of the same field came first", "同一字段已有其他修改"),
    "internal": ("The server could not keep this one as it is", "服务器无法按原样处理此操作"),
    "dismissed": ("It waited in vain and was dismissed", "等待超时，已被驳回"),
}

#: What is remarked on a record that was accepted all the same. Figures stand beside the code in each note.
NOTES: dict[str, tuple[str, str]] = {
    "township-mismatch": ("The chosen township is not where the fix lies", "所选镇街与定位不一致"),
    "township-uncertain": ("The fix lies within its accuracy of a limit", "定位靠近镇街边界，归属不确定"),
    "township-retired": ("The township code was not valid that day", "镇街代码当日已停用"),
    "outside-district": ("The fix lies in no township of the district", "定位不在本区任何镇街内"),
    "not-delegated": ("The township may not enforce this item; refer it", "该事项未赋权本镇街，应移送"),
    "item-not-in-force": ("The item was not in force that day", "该事项当日未生效"),
    "place-not-in-force": ("The designated place was not open that day", "该指定地点当日未启用"),
    "single-officer": ("Fewer than two officers; the law asks for two", "执法人员少于两人"),
    "card-expired": ("The officer's card was not valid that day", "执法证当日已失效"),
    "auxiliary-decided": (
        "An auxiliary recorded a decision only an officer takes",
        "辅助人员作出了执法决定",
    ),
    "unknown-officer": ("An officer named has no account", "所列执法人员没有账号"),
    "not-on-patrol": ("The officer is not among the patrol's officers", "该人员不在巡查人员名单中"),
    "clock-corrected": ("The phone's clock was off and was corrected", "手机时钟有误，已校正"),
    "clock-unknown": ("When it happened can't be told", "无法确定发生时间"),
    "no-fix": ("There is no usable position", "没有可用的定位"),
    "poor-accuracy": ("The position is rough", "定位精度较差"),
    "mock-location": ("The phone says the position is simulated", "手机标示为模拟定位"),
    "crs-undeclared": ("The coordinate system was not declared", "未声明坐标系"),
    "crs-doubtful": ("This source rarely gives that coordinate system", "该来源通常不使用所声明的坐标系"),
    "auto-merged": ("Merged field by field with another change", "已与其他修改按字段合并"),
    "photo-elsewhere": ("The photo says it was taken elsewhere", "照片记录的拍摄地点与定位不符"),
    "photo-other-time": ("The photo says it was taken at another time", "照片记录的拍摄时间与记录不符"),
    "photo-edited": ("The photo says it went through an editor", "照片显示曾被编辑软件处理"),
    "photo-differs": ("The photo is of another type or size than announced", "照片的类型或大小与申报不符"),
    "photo-undecodable": ("The photo can't be decoded", "照片无法解码"),
    "photo-too-costly": ("The photo is too large to be decoded safely", "照片尺寸过大，未予解码"),
    "photo-animated": ("The photo has several frames", "照片含多帧画面"),
    "photo-polyglot": ("The photo's file is also something else", "照片文件同时包含其他格式内容"),
    "photo-too-large": ("The photo announced is larger than the server takes", "所申报的照片超过服务器接收上限"),
    "repeat-vendor": ("The vendor was warned before", "该摊贩此前已被教育或警告"),
    "counter-reused": ("This counter was used before by the installation", "该安装的计数器已被使用过"),
}

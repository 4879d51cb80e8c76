"""The pages that nginx shows when there is no other answer, in Vietnamese."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ErrorPage:
    """One page: what happened, what the user can do."""

    status: int
    title: str
    lines: tuple[str, ...]
    link: str = "Về trang đăng nhập"


ERROR_PAGES = (
    ErrorPage(
        400,
        "Yêu cầu không hợp lệ",
        ("Trình duyệt đã gửi một yêu cầu mà máy chủ không hiểu.", "Hãy thử lại từ trang đầu."),
    ),
    ErrorPage(
        404,
        "Không tìm thấy trang",
        ("Địa chỉ này không có trên hệ thống thư. Hãy kiểm tra lại địa chỉ.",),
    ),
    ErrorPage(
        413,
        "Tệp quá lớn",
        (
            "Tệp bạn gửi vượt quá dung lượng cho phép của một thư.",
            "Hãy chia nhỏ tệp, hoặc gửi bằng cách khác.",
        ),
    ),
    ErrorPage(
        429,
        "Quá nhiều yêu cầu",
        ("Có quá nhiều yêu cầu từ địa chỉ mạng của bạn. Hãy đợi một phút rồi thử lại.",),
        "Thử lại",
    ),
    ErrorPage(
        503,
        "Webmail tạm thời không hoạt động",
        (
            "Hệ thống webmail đang gặp sự cố hoặc đang được bảo trì. Thư của bạn vẫn an toàn và"
            " vẫn được nhận.",
            "Hãy thử lại sau ít phút. Trong lúc đó, bạn vẫn có thể đọc và gửi thư bằng phần mềm"
            " thư (Outlook, Thunderbird, điện thoại).",
        ),
        "Thử lại",
    ),
)
"""By status; one page may serve several (see the nginx configuration)."""

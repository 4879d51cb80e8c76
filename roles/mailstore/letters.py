"""What the store writes to people, in Vietnamese."""

from collections.abc import Mapping
from dataclasses import dataclass

from roles.common.rendering import encoded


@dataclass(frozen=True)
class Letter:
    """Subject and text of a letter."""

    subject: str
    body: str

    @property
    def subject_header(self) -> str:
        """The subject as a header field holds it (RFC 2047), on one line."""
        return encoded(self.subject)


_HOW_TO = """Để tránh bị gián đoạn, đề nghị ông/bà:
- xóa các thư không còn cần thiết, nhất là thư có tệp đính kèm lớn;
- dọn thư mục Thùng rác và Thư rác;
- lưu về máy tính các văn bản cần giữ lâu dài.

Nếu cần thêm dung lượng, xin liên hệ bộ phận quản trị thư điện tử của đơn vị."""

QUOTA_LETTERS: Mapping[str, Letter] = {
    "80": Letter(
        "Hộp thư đã dùng hơn 80% dung lượng",
        f"Hộp thư của ông/bà đã dùng hơn 80% dung lượng được cấp.\n\n{_HOW_TO}",
    ),
    "95": Letter(
        "Hộp thư sắp đầy: đã dùng hơn 95% dung lượng",
        "Hộp thư của ông/bà đã dùng hơn 95% dung lượng được cấp. Khi hộp thư đầy, thư gửi tới sẽ "
        f"bị từ chối và trả lại cho người gửi.\n\n{_HOW_TO}",
    ),
    "100": Letter(
        "Hộp thư đã đầy: thư gửi tới đang bị từ chối",
        "Hộp thư của ông/bà đã dùng hết dung lượng được cấp. Từ lúc này, thư gửi tới bị từ chối và "
        f"trả lại cho người gửi, cho đến khi hộp thư có chỗ trống.\n\n{_HOW_TO}",
    ),
    "below": Letter(
        "Hộp thư đã nhận thư trở lại",
        "Hộp thư của ông/bà đã có chỗ trống và đang nhận thư trở lại bình thường.",
    ),
}
"""The letters about the quota, by the level that Dovecot names."""

"""The certificate of what was destroyed, as an official reads it."""

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

_VIETNAM = timezone(timedelta(hours=7))


def certificate(record: Mapping[str, Any]) -> str:
    """The text of a certificate (regulation, article 8).

    Args:
        record: an archive's description, and `rule`, `by`, `at`: why, by whom and when.
    """
    first, last = record["first"], record["last"]
    lines = [
        ("Hộp thư", f"{record['display']} <{record['address']}>"),
        ("Bản lưu trữ", record["name"]),
        ("Máy chủ", record["host"]),
        ("Thôi sử dụng từ", _day(record["since"])),
        ("Lập bản lưu trữ lúc", _day(record["made"])),
        ("Số thư", str(record["letters"])),
        ("Số thư mục", str(record["folders"])),
        ("Dung lượng thư (byte)", str(record["bytes"])),
        ("Thời gian của thư", f"từ {first} đến {last}" if first else "không có thư"),
        ("SHA-256 của bản lưu trữ", record["digest"]),
        ("SHA-256 của mục lục", record["index_digest"]),
        ("Hủy lúc", _day(record["at"])),
        ("Căn cứ", record["rule"]),
        ("Người thực hiện", record["by"]),
    ]
    body = "\n".join(f"{label}: {value}" for label, value in lines)
    return (
        "BIÊN BẢN HỦY BẢN LƯU TRỮ HỘP THƯ ĐIỆN TỬ\n\n"
        f"{body}\n\n"
        "Bản lưu trữ và mục lục của nó đã bị xóa khỏi kho thư; không còn khôi phục được từ đó.\n"
        "Bản sao lưu của hệ thống lập trước lúc hủy còn chứa bản lưu trữ này, đã mã hóa,\n"
        "cho đến khi hết hạn giữ bản sao lưu.\n"
    )


def _day(moment: str) -> str:
    """A GeneralizedTime in Vietnam's time."""
    if not moment:
        return ""
    when = datetime.strptime(f"{moment[:14]}+0000", "%Y%m%d%H%M%S%z")
    return when.astimezone(_VIETNAM).strftime("%H:%M:%S %d/%m/%Y")

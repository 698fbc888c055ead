"""Secrets and personal data in a text: what must be in no row that is learned, and in nothing that is published."""

import re
from contextlib import AbstractContextManager

_DETECTORS = (
    "AWSKeyDetector", "AzureStorageKeyDetector", "DiscordBotTokenDetector", "GitHubTokenDetector", "GitLabTokenDetector",
    "JwtTokenDetector", "MailchimpDetector", "NpmDetector", "OpenAIDetector", "PrivateKeyDetector", "PypiTokenDetector", "SendGridDetector",
    "SlackDetector", "StripeDetector", "TelegramBotTokenDetector", "TwilioKeyDetector",
)  # fmt: skip
"""Those of detect-secrets that know a secret by its form; the ones that go by entropy take code and identifiers for secrets."""
_MAY_BE_SECRET = re.compile(r"\S{16}|PRIVATE KEY")
"""What a text with a secret holds: all that the detectors know are longer than this, or a key's first line. Most texts need not be scanned so."""


def knowing_secrets() -> AbstractContextManager[object]:
    """What `secret_kind` has to be asked within: the detectors are made once."""
    from detect_secrets.settings import transient_settings

    within: AbstractContextManager[object] = transient_settings({"plugins_used": [{"name": name} for name in _DETECTORS]})
    return within


def secret_kind(text: str) -> str:
    """The kind of the first secret in a text, or nothing. Asked within `knowing_secrets`."""
    from detect_secrets.core.scan import scan_line

    lines = text.splitlines() if _MAY_BE_SECRET.search(text) else []
    return next((secret.type for line in lines for secret in scan_line(line)), "")


_MAIL = re.compile(r"\b[\w.+-]+@(?!(?:[\w-]+\.)*example\.)[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}\b", re.I)
_CARD = re.compile(r"(?<![\d.-])[3-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{3,4}(?![\d.])")
_ACCOUNT = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")


def personal_kind(text: str) -> str:
    """Mail address, telephone number with its country, card or account number whose check digits are right: the first kind in a text, or nothing."""
    from phonenumbers import PhoneNumberMatcher
    from stdnum import iban, luhn

    if "@" in text and _MAIL.search(text):
        return "mail address"
    if "+" in text and PhoneNumberMatcher(text, None).has_next():
        return "telephone number"
    if any(luhn.is_valid(re.sub("[ -]", "", number)) for number in _CARD.findall(text)):
        return "card number"
    return "account number" if any(iban.is_valid(number) for number in _ACCOUNT.findall(text)) else ""

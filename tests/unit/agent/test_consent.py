"""Consent: what the owner said last, whatever happens to the file."""

import json
from pathlib import Path

import pytest

from car_agent.core.policy import OwnerSwitches
from car_agent.journal import consent as consent_module
from car_agent.journal.consent import ConsentFile


def record(**changes: object) -> bytes:
    """A consent as we write it, but for some fields."""
    fields: dict[str, object] = {"format": 1, "terms_version": 1, "opted_in": True, "opt_in_changed_us": 1}
    return json.dumps(fields | {"paused": False, "pause_until_us": 0} | changes).encode()


@pytest.fixture
def consent(tmp_path: Path) -> ConsentFile:
    return ConsentFile(tmp_path / "consent.json")


def test_without_a_file_there_is_no_consent(consent: ConsentFile) -> None:
    assert consent.read() == OwnerSwitches(opted_in=False)


def test_switches_survive(consent: ConsentFile) -> None:
    consent.opt_in(now_us=5)
    consent.pause(until_us=99)
    assert ConsentFile(consent.path).read() == OwnerSwitches(
        opted_in=True, opt_in_changed_us=5, paused=True, pause_until_us=99
    )
    consent.resume()
    assert ConsentFile(consent.path).read() == OwnerSwitches(opted_in=True, opt_in_changed_us=5)
    consent.opt_out(now_us=7)
    assert ConsentFile(consent.path).read() == OwnerSwitches(opted_in=False, opt_in_changed_us=7)
    assert consent.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 120,
        b"{",
        b"[]",
        b"null",
        b'{"opted_in": true}',
        record(opted_in=1),
        record(format=2),
        record(terms_version=2),
        record(extra=1),
    ],
)
def test_a_damaged_record_is_no_consent(consent: ConsentFile, content: bytes) -> None:
    consent.opt_in(now_us=5)
    consent.path.write_bytes(content)
    assert consent.read() == OwnerSwitches(opted_in=False, consent_readable=False)


def test_the_record_of_these_tests_is_a_consent_as_it_stands(consent: ConsentFile) -> None:
    consent.path.write_bytes(record())
    assert consent.read().opted_in


def test_every_truncation_is_no_consent(consent: ConsentFile) -> None:
    consent.opt_in(now_us=5)
    whole = consent.path.read_bytes()
    for length in range(len(whole) - 2):
        consent.path.write_bytes(whole[:length])
        assert not consent.read().opted_in


def test_pausing_over_a_damaged_record_does_not_make_it_a_consent(consent: ConsentFile) -> None:
    consent.path.write_bytes(b"{")
    assert not consent.pause(until_us=0).opted_in
    assert not consent.read().opted_in


def test_opting_in_over_a_damaged_record_is_a_new_consent(consent: ConsentFile) -> None:
    consent.path.write_bytes(b"{")
    consent.opt_in(now_us=3)
    assert consent.read() == OwnerSwitches(opted_in=True, opt_in_changed_us=3)


def test_a_full_disk_cannot_keep_a_consent_alive(
    consent: ConsentFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    consent.opt_in(now_us=5)

    def refuse(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(consent_module, "write_durably", refuse)
    consent.opt_out(now_us=6)
    assert not consent.path.exists()
    assert not consent.read().opted_in
    with pytest.raises(OSError, match="No space"):
        consent.opt_in(now_us=7)
    assert not consent.read().opted_in


def test_a_half_written_replacement_changes_nothing(consent: ConsentFile) -> None:
    consent.opt_in(now_us=5)
    consent.path.with_name(".consent.json.new").write_bytes(b'{"format": 1, "opted')
    assert consent.read().opted_in
    consent.opt_out(now_us=6)
    assert not consent.read().opted_in

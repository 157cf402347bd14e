"""The questions that the dashboard asks: opt in? is this your car? where is your money sent? And the help."""

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from tui.facts import BankFacts, DeviceFacts
from tui.gateway import AccountGateway, GatewayError
from tui.messages import BankHeard, DeviceAnswered, DeviceFound, LoadFailed
from tui.view_models.bank import BankInput, bank_input, refusal_words, threshold_text
from tui.view_models.help_text import HelpView
from tui.view_models.opt_in import TERMS
from tui.view_models.pairing import LABEL_CHARACTERS_MAX, device_lines, normal_code
from tui.view_models.panel import Line, bad, dim, line, warn
from tui.view_models.state import Moment
from tui.view_models.text import clean
from tui.widgets.paint import content, line_content


class OptInQuestion(ModalScreen[bool]):
    """The one confirmation: the terms in one line, yes or no."""

    AUTO_FOCUS = "#yes"
    BINDINGS = [("escape,n", "answer(False)", "No"), ("y", "answer(True)", "Yes")]

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static("Opt in?", classes="dialog-title", markup=False)
            yield Static(TERMS, markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Yes, opt in (y)", id="yes", variant="success")
                yield Button("No (n)", id="no")

    def action_answer(self, yes: bool) -> None:  # noqa: FBT001 - an action's argument
        """Answer by key."""
        self.dismiss(yes)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer by button."""
        self.dismiss(event.button.id == "yes")


class PairDialog(ModalScreen[None]):
    """Approves a car: its code, its key's fingerprint, a name, yes or no."""

    BINDINGS = [("escape", "dismiss", "Back")]

    def __init__(self, *, account: AccountGateway, at: Moment) -> None:
        super().__init__()
        self._account = account
        self._at = at
        self._device: DeviceFacts | None = None

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static("Pair a car", classes="dialog-title", markup=False)
            yield Static("Run `car-agent pair` on the car and type the code that it shows.", markup=False)
            yield Input(placeholder="KXRT-4927", id="code", max_length=12)
            yield Static(id="device", markup=False)
            yield Input(
                placeholder="Name of the car, for your own lists", id="label", max_length=LABEL_CHARACTERS_MAX
            )
            yield Static(id="answer", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Look", id="look", variant="primary")
                yield Button("Approve", id="approve", variant="success")
                yield Button("Refuse", id="refuse", variant="error")
                yield Button("Back (esc)", id="back")

    def on_mount(self) -> None:
        self._show_device(None)

    def _show_device(self, device: DeviceFacts | None) -> None:
        self._device = device
        known = device is not None
        self.query_one("#device", Static).update(content(device_lines(device, self._at)) if device else "")
        for selector in ("#device", "#label", "#approve", "#refuse"):
            self.query_one(selector).display = known
        self.query_one("#look").display = not known
        self.query_one("#label" if known else "#code").focus()

    @on(Input.Submitted, "#code")
    @on(Button.Pressed, "#look")
    def _look(self) -> None:
        code = normal_code(self.query_one("#code", Input).value)
        if code is None:
            self._say(line(warn("A code has eight letters and digits, like KXRT-4927.")))
            return
        self._say(line(dim("Asking the pool …")))
        self._find(code)

    @on(Input.Changed, "#code")
    def _forget(self) -> None:
        if self._device is not None:
            self._show_device(None)

    @on(Input.Submitted, "#label")
    @on(Button.Pressed, "#approve")
    def _approve(self) -> None:
        self._answer(refuse=False)

    @on(Button.Pressed, "#refuse")
    def _refuse(self) -> None:
        self._answer(refuse=True)

    @on(Button.Pressed, "#back")
    def _back(self) -> None:
        self.dismiss()

    def _answer(self, *, refuse: bool) -> None:
        if self._device is None:
            return
        label = self.query_one("#label", Input).value.strip()
        if not label and not refuse:
            self._say(line(warn("Give the car a name first.")))
            self.query_one("#label").focus()
            return
        self._say(line(dim("Telling the pool …")))
        self._tell(self._device.user_code, label, refuse=refuse)

    @work(exclusive=True, group="pairing")
    async def _find(self, code: str) -> None:
        try:
            device = await self._account.device(user_code=code)
        except GatewayError as error:
            self.post_message(LoadFailed(error))
        else:
            self.post_message(DeviceFound(device))

    @work(exclusive=True, group="pairing")
    async def _tell(self, code: str, label: str, *, refuse: bool) -> None:
        try:
            vehicle_id = await self._account.answer_device(user_code=code, label=label, refuse=refuse)
        except GatewayError as error:
            self.post_message(LoadFailed(error))
        else:
            self.post_message(DeviceAnswered(vehicle_id=vehicle_id, label=label))

    @on(DeviceFound)
    def _found(self, message: DeviceFound) -> None:
        self._say(())
        self._show_device(message.device)

    @on(DeviceAnswered)
    def _answered(self, message: DeviceAnswered) -> None:
        said = f"{clean(message.label)} is yours now." if message.vehicle_id else "The device was refused."
        self.app.notify(said, markup=False)
        self.dismiss()

    @on(LoadFailed)
    def _failed(self, message: LoadFailed) -> None:
        self._say(_trouble(message.error))

    def _say(self, said: Line) -> None:
        self.query_one("#answer", Static).update(line_content(said))


#: Which input holds what the pool calls by this name.
_INPUT_OF_FIELD = {"holder_name": "#holder", "town": "#town"}


class BankDialog(ModalScreen[BankFacts | None]):
    """Where the owner's money is sent; the pool checks it at once."""

    BINDINGS = [("escape", "dismiss", "Back")]

    def __init__(self, *, account: AccountGateway, bank: BankFacts | None, currency: str) -> None:
        super().__init__()
        self._account = account
        self._bank = bank or BankFacts()
        self._currency = currency

    def compose(self) -> ComposeResult:
        bank = self._bank
        with Vertical(classes="dialog"):
            yield Static("Where your money is sent", classes="dialog-title", markup=False)
            yield Input(
                value=clean(bank.holder_name), placeholder="Account holder", id="holder", max_length=70
            )
            yield Input(value=clean(bank.iban), placeholder="IBAN", id="iban", max_length=42)
            yield Input(
                value=threshold_text(bank.threshold_micros),
                placeholder=f"Pay from this amount in {clean(self._currency)}, for example 10",
                id="threshold",
                max_length=16,
            )
            yield Input(value=clean(bank.town), placeholder="Town you live in", id="town", max_length=35)
            yield Input(
                value=clean(bank.country), placeholder="Country, two letters", id="country", max_length=2
            )
            yield Static(id="answer", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Save", id="save", variant="success")
                yield Button("Back (esc)", id="back")

    @on(Button.Pressed, "#back")
    def _back(self) -> None:
        self.dismiss(None)

    @on(Input.Submitted)
    @on(Button.Pressed, "#save")
    def _save(self) -> None:
        holder, iban, threshold, town, country = (
            self.query_one(selector, Input).value
            for selector in ("#holder", "#iban", "#threshold", "#town", "#country")
        )
        checked: BankInput = bank_input(holder, iban, threshold, town, country)
        if checked.facts is None:
            self._say(line(warn(checked.problem)))
            return
        self._say(line(dim("Telling the pool …")))
        self._tell(checked.facts)

    @work(exclusive=True, group="bank")
    async def _tell(self, bank: BankFacts) -> None:
        try:
            kept = await self._account.set_bank(bank)
        except GatewayError as error:
            self.post_message(LoadFailed(error))
        else:
            self.post_message(BankHeard(kept))

    @on(BankHeard)
    def _kept(self, message: BankHeard) -> None:
        self.dismiss(message.bank)

    @on(LoadFailed)
    def _failed(self, message: LoadFailed) -> None:
        error = message.error
        if not error.field:
            self._say(_trouble(error))
            return
        if error.proposal and error.field in _INPUT_OF_FIELD:
            self.query_one(_INPUT_OF_FIELD[error.field], Input).value = clean(error.proposal)
        words = refusal_words(public=error.public, detail=error.detail, proposal=error.proposal)
        self._say(line(warn(clean(words))))

    def _say(self, said: Line) -> None:
        self.query_one("#answer", Static).update(line_content(said))


class HelpScreen(ModalScreen[None]):
    """What the panel under the cursor says, in full, and all keys."""

    BINDINGS = [("escape,q,question_mark,f1,enter,space", "dismiss", "Back")]

    def __init__(self, view: HelpView) -> None:
        super().__init__()
        self._view = view

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog help"):
            for title, lines in self._view.sections:
                yield Static(title, classes="dialog-title", markup=False)
                yield Static(content(lines), classes="help-section", markup=False)


def _trouble(error: GatewayError) -> Line:
    return line(bad(clean(error.public)), " ", clean(error.next_step))

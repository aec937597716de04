"""The command `usage`: record, deliver, read back and put right, from a shell or a cron job."""

from __future__ import annotations

import argparse
import sys

from . import output
from .errors import DestinationError, ImportFailed, InvalidEvent, SpoolMissing, StripeError, UsageError, redact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from .client import Client
    from .results import Flush, Result

OK, UNDELIVERED, WRONG = 0, 1, 2

_OVERVIEW = """\
Send Stripe meter events and read them back: nothing lost, nothing billed twice.

Every event is first written to a spool file (--spool, STRIPE_USAGE_SPOOL, or your own, which `usage status` names),
with the identifier it keeps for ever, and then delivered. Any command may be killed and run again."""

_WHERE = """\
where events go is never guessed:
  STRIPE_API_KEY=sk_test_...   Stripe, test mode
  STRIPE_API_KEY=sk_live_...   Stripe, live mode, and only with --live (or STRIPE_MODE=live)
  STRIPE_MODE=sandbox          the local sandbox, in the file STRIPE_SANDBOX_FILE (.stripe-sandbox/stripe.db)
  STRIPE_MODE=off              nowhere: nothing is recorded (for tests)
  STRIPE_API_BASE=http://...   another address: a served sandbox, a proxy

exit code: 0 when the command did all that was asked, 1 when something is not delivered, refused, left out or does not
agree, 2 for a wrong command or setting, 130 for Ctrl-C."""


# Name and summary of each command; what else it does; examples (the program's name is put before them).
_COMMANDS = """
send: record one event, deliver it and wait
  Run again with the same --identifier it is the same event, and bills once.
> send alpaca_ai_tokens --customer cus_123 --value 1200
> send alpaca_ai_tokens --customer cus_123 --value 7 --identifier job-42 --timestamp 2026-11-22T10:00Z
> send alpaca_ai_tokens --customer cus_123 --value=-200 --correction

import: record the events of a CSV or JSON Lines file and deliver them
  Columns (or keys): customer, value, event_name, timestamp, identifier, dimensions.NAME.
  Bad lines are named and left out. Run again, it bills nothing twice: what a row says names it.
> import tokens.csv --event alpaca_ai_tokens --dry-run
> import tokens.csv --event alpaca_ai_tokens
> import - --format jsonl --import-id 2026-11-22    (standard input)

flush: deliver everything recorded
  Safe at any time and from any number of processes; put it in cron.
> flush --timeout 50 --json
> flush --take unassigned    (recorded when nothing said where)

status: show what is in the spool
  Makes no call.
> status --json

summary: show usage as Stripe aggregated it
  The window is aligned for you; Stripe's totals lag by seconds to minutes.
> summary alpaca_ai_tokens --customer cus_123
> summary alpaca_ai_tokens --subscription sub_123    (this billing period)
> summary mtr_123 --customer cus_1 --customer cus_2 --start 2026-11-01T00:00Z --group day --csv

preview-invoice: show the next invoice line by line, as it would be now
> preview-invoice --subscription sub_123
> preview-invoice --customer cus_123    (each of its subscriptions)

verify: compare the spool with Stripe's totals, hour by hour
  Reports and changes nothing.
> verify --wait 120

errors: list refused events, or take in Stripe's asynchronous error reports
> errors
> errors --fetch
> errors --report event.json

retry: send refused events again, after the cause is fixed
  An event of unknown fate is sent again only when it is named: do that when you know that it did not arrive.
> retry --code no_meter
> retry IDENTIFIER ...

cancel: take an event back
  Stripe removes it inside 24 hours; after that --correct records a negative event.
> cancel IDENTIFIER
> cancel IDENTIFIER --correct
> cancel IDENTIFIER --event alpaca_ai_tokens    (an event that this spool does not know)

drain: deliver what producers put into an SQS queue
  Run as many as you like, with --share N each.
> drain --queue sqs://usage
> drain --queue sqs://usage --forever --share 3
> drain --queue sqs://usage --redrive
"""


def _option(help: str, **settings: Any) -> dict[str, Any]:
    return {"help": help, **settings}


def _switch(help: str) -> dict[str, Any]:
    return {"help": help, "action": "store_true"}


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 31_536_000:
        raise argparse.ArgumentTypeError("must be between 0 and a year")
    return seconds


def _time(help: str, default: float | None = None) -> dict[str, Any]:
    return _option(help, type=_seconds, default=default, metavar="SECONDS")


_LATER = _time("stop delivering after so long; the rest stays for the next flush")
_OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "send": {
        "event": _option("event name of the meter", metavar="EVENT"),
        "--customer": _option("cus_...", required=True),
        "--value": _option("units, a decimal number (default 1)", default="1"),
        "--identifier": _option("names the fact, at most 100 characters (default: a new one)"),
        "--timestamp": _option("Unix seconds or ISO 8601 with an offset (default now)"),
        "--dimension": _option("a further payload key", action="append", default=[], metavar="KEY=VALUE"),
        "--correction": _switch("allow a negative value"),
        "--no-wait": _switch("only record; `usage flush` delivers"),
        "--timeout": _time("give up waiting after so long (default 60); the event stays in the spool", 60.0),
    },
    "import": {
        "file": _option("a path, or - for standard input", metavar="FILE"),
        "--format": _option("default: by the name's ending", choices=("csv", "jsonl")),
        "--event": _option("event name for rows without one", metavar="NAME"),
        "--import-id": _option("names the data: needed for rows without timestamp and identifier", metavar="NAME"),
        "--timestamp": _option("time for rows without one: ISO 8601, Unix seconds, or now", metavar="WHEN"),
        "--corrections": _switch("allow negative values"),
        "--whole": _switch("take a last line that has no line break"),
        "--rejects": _option("keep the bad lines here, to be corrected and imported", metavar="FILE"),
        "--dry-run": _switch("check every line, show totals, record nothing"),
        "--no-flush": _switch("only record; `usage flush` delivers"),
        "--timeout": _LATER,
    },
    "flush": {
        "--take": _option(
            "also deliver what was recorded for NAME (see status): you know it belongs here", metavar="NAME"
        ),
        "--outbox": _option("hand the events to this queue instead", metavar="sqs://QUEUE"),
        "--timeout": _LATER,
    },
    "status": {},
    "summary": {
        "meter": _option("event name, or mtr_...", metavar="EVENT|METER_ID"),
        "--customer": _option("cus_... (repeat for several)", action="append"),
        "--subscription": _option("sub_...: its customer and its current billing period"),
        "--start": _option("ISO 8601 with an offset, or Unix seconds (default: start of this UTC month)"),
        "--end": _option("exclusive (default now)"),
        "--group": _option("one row an hour or UTC day", choices=("hour", "day")),
        "--csv": _switch("print CSV"),
    },
    "preview-invoice": {"--subscription": _option("sub_..."), "--customer": _option("cus_...")},
    "verify": {
        "--event": _option("only this event name", metavar="NAME"),
        "--customer": _option("only this customer (repeat for several)", action="append", default=[]),
        "--start": _option("default: everything that the spool still has"),
        "--end": _option("exclusive"),
        "--wait": _time("wait so long for Stripe's lag", 0.0),
    },
    "errors": {
        "--fetch": _switch("ask Stripe for the reports since the last one"),
        "--report": _option("an error report as a webhook received it (- for standard input)", metavar="FILE"),
        "--limit": _option("show so many (default 50)", type=int, default=50),
    },
    "retry": {
        "identifiers": _option("only these", nargs="*", metavar="IDENTIFIER"),
        "--code": _option("only those refused with this code", action="append", default=[]),
        "--timeout": _LATER,
    },
    "cancel": {
        "identifier": _option("of the event", metavar="IDENTIFIER"),
        "--event": _option("event name, for an event that is not in the spool", metavar="NAME"),
        "--correct": _switch("after 24 hours: record a negative event"),
        "--timeout": _time("wait so long for deliveries (default 60)", 60.0),
    },
    "drain": {
        "--queue": _option("sqs://NAME or sqs://HOST/ACCOUNT/NAME", required=True, metavar="sqs://QUEUE"),
        "--share": _option("N workers share the account's limits", type=int, default=1, metavar="N"),
        "--idle": _time("end when empty for so long (default 5)", 5.0),
        "--forever": _switch("wait for more until stopped (SIGTERM finishes the batch)"),
        "--visibility": _option("hide a message so long (default 120)", type=int, default=120, metavar="SECONDS"),
        "--redrive": _switch("first move the dead-letter queue's messages back"),
    },
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command."""
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("where")
    group.add_argument("--spool", metavar="FILE", help="the spool file")
    mode = group.add_mutually_exclusive_group()
    mode.add_argument("--mode", choices=("sandbox", "test", "live", "off"), help="insist on this mode")
    live = "allow a live key: bills real customers"
    mode.add_argument("--live", action="store_const", const="live", dest="mode", help=live)
    common.add_argument("--json", action="store_true", help="print one JSON document")
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="usage", description=_OVERVIEW, epilog=_WHERE, formatter_class=raw)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for text in _COMMANDS.strip().split("\n\n"):
        head, *lines = text.split("\n")
        name, _, summary = head.partition(": ")
        description = " ".join([f"{summary[0].upper()}{summary[1:]}.", *(x[2:] for x in lines if x.startswith("  "))])
        examples = "examples:\n" + "\n".join(f"  usage {x[2:]}" for x in lines if x.startswith("> "))
        made = commands.add_parser(
            name, help=summary, description=description, epilog=examples, parents=[common], formatter_class=raw
        )
        made.set_defaults(run=globals()["_" + name.replace("-", "_")])
        for option, settings in _OPTIONS[name].items():
            made.add_argument(*option.split(), **settings)
    return parser


def _client(options: argparse.Namespace, *, create: bool = False, **more: object) -> Client:
    """A client that this command uses by itself; only what records may make a spool."""
    from .client import Client

    made = Client(options.spool, mode=options.mode, background=False, create=create, on_error=_complain, **more)  # type: ignore[arg-type]
    options.client = made
    return made


def _complain(problem: UsageError) -> None:
    print(f"usage: {redact(str(problem))}", file=sys.stderr)


def _print(options: argparse.Namespace, result: Result, show: Callable[..., None]) -> int:
    """Print a result; the exit code is its verdict."""
    if options.json:
        output.print_json(result.as_json())
    else:
        show(result)
    return OK if getattr(result, "complete", True) else UNDELIVERED


def _recorded(client: Client) -> int:
    """The exit code of a command that was asked to record and no more: it did that, unless nothing says where to."""
    return OK if client._destination is not None or client._outbox_address else UNDELIVERED


def _send(options: argparse.Namespace) -> int:
    dimensions: dict[str, str] = {}
    for pair in options.dimension:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--dimension {pair!r} is not KEY=VALUE")
        dimensions[key] = value
    client = _client(options, create=True)
    arguments = (options.event, options.customer, options.value, options.timestamp, options.identifier, dimensions)
    if options.no_wait:
        identifier = client.record(*arguments, correction=options.correction)
        if options.json:
            output.print_json({"identifier": identifier, "state": "pending", "spool": client.spool.path})
        else:
            print(f"recorded {identifier} in {client.spool.path}; `usage flush` delivers it")
        return _recorded(client)
    sent = client.send(*arguments, correction=options.correction, timeout=options.timeout)
    code = _print(options, sent, output.show_sent)
    left = client.status().pending
    if left and not options.json:
        print(f"{output.count(left, 'other event')} waiting in the spool: `usage flush`")
    return code


def _import(options: argparse.Namespace) -> int:
    client = _client(options, create=True)
    recording_only = options.dry_run or options.no_flush
    if not recording_only:
        _ = client.destination  # say what is missing before a long file is read
    shown = not options.json and sys.stderr.isatty()
    names = ("format", "import_id", "timestamp", "corrections", "whole", "dry_run", "rejects")
    imported = client.import_file(
        sys.stdin.buffer if options.file == "-" else options.file,
        event_name=options.event,
        progress=_progress if shown else None,
        **{name: getattr(options, name) for name in names},
    )
    if shown:
        print("\r\033[K", end="", file=sys.stderr)
    flushed = None if recording_only else client.flush(options.timeout)
    strange = _strange_names(client, [total.event_name for total in imported.totals]) if options.dry_run else []
    label, sandbox = client._where()
    if options.json:
        data = {**imported.as_json(), "unknown_event_names": strange, "sandbox": sandbox}
        output.print_json({**data, "flush": flushed.as_json() if flushed else None})
    else:
        output.show_imported(imported, label)
        for name in strange:
            print(f'  no active meter has the event name "{name}"; these events would be refused')
        if flushed is not None:
            output.show_flush(flushed)
    if imported.bad or strange or imported.held_back:
        return UNDELIVERED
    if flushed is None:
        return OK if options.dry_run else _recorded(client)
    return OK if flushed.complete and client.status().complete else UNDELIVERED


def _strange_names(client: Client, names: Sequence[str]) -> list[str]:
    """Event names that no active meter has, where there is a destination to ask."""
    if client._destination is None or client._destination.mode == "off":
        return []
    from .delivery import Meters

    meters = Meters(client.api)
    return [name for name in names if meters.find(name) is None and meters.readable]


def _progress(lines: int, rows: int) -> None:
    print(f"\r{lines:,} lines read, {rows:,} rows good", end="", file=sys.stderr, flush=True)


def _flush(options: argparse.Namespace) -> int:
    client = _client(options, outbox=options.outbox)
    return _flushed(options, client, client.flush(options.timeout, take=options.take))


def _flushed(options: argparse.Namespace, client: Client, flushed: Flush) -> int:
    code = _print(options, flushed, output.show_flush)
    left = client.status()
    if left.dead > flushed.refused_count and not options.json:
        print(f"  {left.dead - flushed.refused_count:,} refused earlier: `usage errors`")
    return code if left.complete else UNDELIVERED


def _status(options: argparse.Namespace) -> int:
    return _print(options, _client(options).status(), output.show_status)


def _summary(options: argparse.Namespace) -> int:
    window = (options.meter, options.customer, options.start, options.end)
    result = _client(options).summaries(*window, group=options.group, subscription=options.subscription)
    if options.csv and not options.json:
        sys.stdout.write(result.as_csv())
        return OK
    return _print(options, result, output.show_summaries)


def _preview_invoice(options: argparse.Namespace) -> int:
    if options.subscription and options.customer:
        raise ValueError("--subscription and --customer name different previews; give one of them")
    result = _client(options).preview_invoice(subscription=options.subscription, customer=options.customer)
    return _print(options, result, output.show_preview)


def _verify(options: argparse.Namespace) -> int:
    which = {"event_name": options.event, "customers": options.customer, "wait": options.wait}
    return _print(options, _client(options).verify(options.start, options.end, **which), output.show_verification)


def _errors(options: argparse.Namespace) -> int:
    client = _client(options)
    if options.fetch and options.report:
        raise ValueError("--fetch and --report are two sources; give one of them")
    if options.fetch or options.report:
        if options.fetch:
            taken = client.fetch_error_reports()
        elif options.report == "-":
            taken = client.error_report(sys.stdin.buffer.read())
        else:
            with open(options.report, "rb") as file:
                taken = client.error_report(file.read())
        _print(options, taken, output.show_reports)
        return OK if not taken.errors else UNDELIVERED
    letters = client.dead_letters(options.limit)
    if options.json:
        # the event's own fields stand beside the refusal's
        rows = [{**letter.event._asdict(), **letter._asdict()} for letter in letters]
        output.print_json({"errors": [{key: row[key] for key in row if key != "event"} for row in rows]})
    elif letters:
        output.show_letters(letters)
    else:
        print("no event was refused")
    return UNDELIVERED if letters else OK


def _retry(options: argparse.Namespace) -> int:
    client = _client(options)
    _ = client.destination
    again = client.retry(codes=options.code, identifiers=options.identifiers)
    missing = len(options.identifiers) - len(again)
    if missing > 0:
        print(f"usage: {output.count(missing, 'identifier')} neither refused nor of unknown fate", file=sys.stderr)
    if not options.json:
        print(f"{output.count(len(again))} to be sent again")
    return _flushed(options, client, client.flush(options.timeout)) or (UNDELIVERED if missing > 0 else OK)


def _cancel(options: argparse.Namespace) -> int:
    client = _client(options)
    how = {"event_name": options.event, "correct": options.correct, "timeout": options.timeout}
    result = client.cancel(options.identifier, **how)
    flushed = client.flush(options.timeout) if result.outcome == "corrected" else None
    _print(options, result, output.show_cancelled)
    if flushed is not None and not options.json:
        output.show_flush(flushed)
    return OK if flushed is None or flushed.complete else UNDELIVERED


def _drain(options: argparse.Namespace) -> int:
    import signal
    import threading

    client = _client(options, create=True, share=options.share, outbox=options.queue)
    _ = client.destination
    if options.redrive:
        moved = client._outbox().redrive()
        if not options.json:
            print(f"{output.count(moved, 'message')} moved back from the dead-letter queue")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    idle = None if options.forever else options.idle
    result = client.drain(idle_seconds=idle, visibility=options.visibility, stop=stop)
    return _print(options, result, output.show_drained)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = build_parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # an identifier that this terminal cannot show is no traceback
            stream.reconfigure(errors="backslashreplace")
    try:
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # whoever read our output (head, less) has seen enough; nothing is left to flush at exit
        import os

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (UsageError, ValueError, OSError) as problem:
        return _failed(options, problem)
    except KeyboardInterrupt:
        print("usage: interrupted; what was recorded is in the spool", file=sys.stderr)
        return 130
    finally:
        client: Client | None = getattr(options, "client", None)
        if client is not None:
            client._release()


def _failed(options: argparse.Namespace, problem: Exception) -> int:
    message = redact(str(problem)).replace("\n", " ")
    if options.json:
        error = {"type": type(problem).__name__, "message": message}
        if isinstance(problem, StripeError):
            error.update(code=problem.code or "", request_id=problem.request_id or "")
        output.print_json({"error": error, "complete": False})
    print(f"usage: {message}", file=sys.stderr)
    settings = (DestinationError, InvalidEvent, ImportFailed, SpoolMissing)
    return WRONG if isinstance(problem, settings) or not isinstance(problem, UsageError) else UNDELIVERED


if __name__ == "__main__":
    sys.exit(main())

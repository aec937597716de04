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
    from .results import Flush

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

# Each command: its name and summary; what else it does; its arguments (see `_argument`); examples.
_COMMANDS = """
send: record one event, deliver it and wait
  Run again with the same --identifier it is the same event, and bills once.
- event EVENT  event name of the meter
- --customer CUSTOMER!  cus_...
- --value UNITS=1  a decimal number (default 1)
- --identifier NAME  names the fact, at most 100 characters (default: a new one)
- --timestamp WHEN  Unix seconds or ISO 8601 with an offset (default now)
- --dimension KEY=VALUE+  a further payload key (repeat for several)
- --correction  allow a negative value
- --no-wait  only record; `usage flush` delivers
- --timeout SECONDS=60  give up waiting after so long (default 60); the event stays in the spool
> send alpaca_ai_tokens --customer cus_123 --value 1200
> send alpaca_ai_tokens --customer cus_123 --value 7 --identifier job-42 --timestamp 2026-11-22T10:00Z
> send alpaca_ai_tokens --customer cus_123 --value=-200 --correction

import: record the events of a CSV or JSON Lines file and deliver them
  Columns (or keys): customer, value, event_name, timestamp, identifier, dimensions.NAME.
  Bad lines are named and left out. Run again, it bills nothing twice: what a row says names it.
- file FILE  a path, or - for standard input
- --format csv|jsonl  default: by the name's ending
- --event NAME  event name for rows without one
- --import-id NAME  names the data: needed for rows without timestamp and identifier
- --timestamp WHEN  time for rows without one: ISO 8601, Unix seconds, or now
- --corrections  allow negative values
- --whole  take a last line that has no line break
- --rejects FILE  keep the bad lines here, to be corrected and imported
- --dry-run  check every line, show totals, record nothing
- --no-flush  only record; `usage flush` delivers
- --timeout SECONDS  stop delivering after so long; the rest stays for the next flush
> import tokens.csv --event alpaca_ai_tokens --dry-run
> import tokens.csv --event alpaca_ai_tokens
> import - --format jsonl --import-id 2026-11-22    (standard input)

flush: deliver everything recorded
  Safe at any time and from any number of processes; put it in cron.
- --take NAME  also deliver what was recorded for NAME (see status): you know it belongs here
- --outbox sqs://QUEUE  hand the events to this queue instead
- --timeout SECONDS  stop delivering after so long; the rest stays for the next flush
> flush --timeout 50 --json
> flush --take unassigned    (recorded when nothing said where)

status: show what is in the spool
  Makes no call.
> status --json

summary: show usage as Stripe aggregated it
  The window is aligned for you; Stripe's totals lag by seconds to minutes.
- meter EVENT|METER_ID  event name, or mtr_...
- --customer CUSTOMER+  cus_... (repeat for several)
- --subscription SUBSCRIPTION  sub_...: its customer and its current billing period
- --start WHEN  ISO 8601 with an offset, or Unix seconds (default: start of this UTC month)
- --end WHEN  exclusive (default now)
- --group hour|day  one row an hour or UTC day
- --csv  print CSV
> summary alpaca_ai_tokens --customer cus_123
> summary alpaca_ai_tokens --subscription sub_123    (this billing period)
> summary mtr_123 --customer cus_1 --customer cus_2 --start 2026-11-01T00:00Z --group day --csv

preview-invoice: show the next invoice line by line, as it would be now
- --subscription SUBSCRIPTION  sub_...
- --customer CUSTOMER  cus_...
> preview-invoice --subscription sub_123
> preview-invoice --customer cus_123    (each of its subscriptions)

verify: compare the spool with Stripe's totals, hour by hour
  Reports and changes nothing.
- --event NAME  only this event name
- --customer CUSTOMER+  only this customer (repeat for several)
- --start WHEN  default: everything that the spool still has
- --end WHEN  exclusive
- --wait SECONDS=0  wait so long for Stripe's lag
> verify --wait 120

errors: list refused events, or take in Stripe's asynchronous error reports
- --fetch  ask Stripe for the reports since the last one
- --report FILE  an error report as a webhook received it (- for standard input)
- --limit N=50  show so many (default 50)
> errors --fetch
> errors --report event.json

retry: send refused events again, after the cause is fixed
  An event of unknown fate is sent again only when it is named: do that when you know that it did not arrive.
- identifiers IDENTIFIER*  only these
- --code CODE+  only those refused with this code
- --timeout SECONDS  stop delivering after so long; the rest stays for the next flush
> retry --code no_meter
> retry IDENTIFIER ...

cancel: take an event back
  Stripe removes it inside 24 hours; after that --correct records a negative event.
- identifier IDENTIFIER  of the event
- --event NAME  event name, for an event that is not in the spool
- --correct  after 24 hours: record a negative event
- --timeout SECONDS=60  wait so long for deliveries (default 60)
> cancel IDENTIFIER --correct
> cancel IDENTIFIER --event alpaca_ai_tokens    (an event that this spool does not know)

drain: deliver what producers put into an SQS queue
  Run as many as you like, with --share N each.
- --queue sqs://QUEUE!  sqs://NAME or sqs://HOST/ACCOUNT/NAME
- --share N=1  N workers share the account's limits
- --idle SECONDS=5  end when empty for so long (default 5)
- --forever  wait for more until stopped (SIGTERM finishes the batch)
- --visibility N=120  hide a message for N seconds (default 120)
> drain --queue sqs://usage
> drain --queue sqs://usage --forever --share 3
"""


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 31_536_000:
        raise argparse.ArgumentTypeError("must be between 0 and a year")
    return seconds


def _argument(parser: argparse.ArgumentParser, line: str) -> None:
    """Add an argument: its name, what stands for its value, and help. After the value: ! required, + may be repeated,
    * any number, =... the default. Without a value it is a switch; csv|jsonl are choices, SECONDS and N numbers."""
    left, _, words = line.partition("  ")
    name, _, value = left.partition(" ")
    settings: dict[str, Any] = {"help": words}
    if not value:
        parser.add_argument(name, action="store_true", **settings)
        return
    shown, _, default = value.partition("=") if not value.endswith("+") else (value, "", "")
    settings["metavar"] = shown.rstrip("!+*")
    if shown.islower() and "|" in shown:
        settings.update(choices=shown.split("|"), metavar=None)
    if shown in ("SECONDS", "N"):
        settings["type"] = _seconds if shown == "SECONDS" else int
    if default:
        settings["default"] = default
    for mark, meaning in (("!", {"required": True}), ("+", {"action": "append", "default": []}), ("*", {"nargs": "*"})):
        if shown.endswith(mark):
            settings.update(meaning)
    parser.add_argument(name, **settings)


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
        head, *rest = text.split("\n")
        name, _, summary = head.partition(": ")
        lines = {mark: [line[2:] for line in rest if line.startswith(mark)] for mark in ("  ", "- ", "> ")}
        description = " ".join([f"{summary[0].upper()}{summary[1:]}.", *lines["  "]])
        examples = "\n  usage ".join(["examples:", *lines["> "]])
        made = commands.add_parser(
            name, help=summary, description=description, epilog=examples, parents=[common], formatter_class=raw
        )
        made.set_defaults(run=globals()["_" + name.replace("-", "_")])
        for line in lines["- "]:
            _argument(made, line)
    return parser


def _client(options: argparse.Namespace, **more: Any) -> Client:
    """A client that this command uses by itself; only what records may make a spool."""
    from .client import Client

    how = {"mode": options.mode, "background": False, "create": False, "on_error": _complain, **more}
    options.client = Client(options.spool, **how)
    return options.client  # type: ignore[no-any-return]


def _complain(problem: object) -> None:
    print(f"usage: {redact(str(problem))}", file=sys.stderr)


def _print(options: argparse.Namespace, result: Any, show: Callable[[Any], None]) -> int:
    """Print a result; the exit code is its verdict."""
    if options.json:
        output.print_json(result)
    else:
        show(result)
    return OK if getattr(result, "complete", True) else UNDELIVERED


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
        data = {"identifier": identifier, "state": "pending", "spool": client.spool.path}
        _print(
            options, data, lambda _: print(f"recorded {identifier} in {client.spool.path}; `usage flush` delivers it")
        )
        return OK if client._delivers() else UNDELIVERED  # it did what was asked, unless nothing says where to
    sent = client.send(*arguments, correction=options.correction, timeout=options.timeout)
    _print(options, sent, output.show_sent)
    left = client.status().pending
    if left and not options.json:
        print(f"{output.count(left, 'other event')} waiting in the spool: `usage flush`")
    return OK


def _import(options: argparse.Namespace) -> int:
    client = _client(options, create=True)
    recording_only = options.dry_run or options.no_flush
    if not recording_only:
        _ = client.destination  # say what is missing before a long file is read
    taken = ("format", "import_id", "timestamp", "corrections", "whole", "dry_run", "rejects")
    imported = client.import_file(
        sys.stdin.buffer if options.file == "-" else options.file,
        event_name=options.event,
        **{name: getattr(options, name) for name in taken},
    )
    flushed = None if recording_only else client.flush(options.timeout)
    strange: list[str] = []
    if options.dry_run and client._destination is not None and client._destination.mode != "off":
        from .delivery import is_active

        names = [total.event_name for total in imported.totals]
        strange = [name for name in names if not is_active(client._deliverer.meters.find(name))]
    label, sandbox = client._where()
    if options.json:
        data = {**imported.as_json(), "unknown_event_names": strange, "sandbox": sandbox}
        output.print_json({**data, "flush": flushed})
    else:
        output.show_imported(imported, label)
        for name in strange:
            print(f'  no active meter has the event name "{name}"; these events would be refused')
        if flushed is not None:
            output.show_flush(flushed)
    if strange or not imported.complete:
        return UNDELIVERED
    if flushed is None:
        return OK if options.dry_run or client._delivers() else UNDELIVERED
    return OK if flushed.complete and client.status().complete else UNDELIVERED


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
    window = (options.meter, options.customer or None, options.start, options.end)
    result = _client(options).summaries(*window, group=options.group, subscription=options.subscription)
    return _print(options, result, output.print_csv if options.csv else output.show_summaries)


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
    if options.fetch:
        return _print(options, client.fetch_error_reports(), output.show_reports)
    if options.report:
        source = 0 if options.report == "-" else options.report
        with open(source, "rb", closefd=source != 0) as file:
            return _print(options, client.error_report(file.read()), output.show_reports)
    letters = client.dead_letters(options.limit)
    if options.json:
        output.print_json({"errors": letters})
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

    client = _client(options, create=True, share=options.share)
    _ = client.destination
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    idle = None if options.forever else options.idle
    result = client.drain(options.queue, idle_seconds=idle, visibility=options.visibility, stop=stop)
    return _print(options, result, output.show_flush)


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
        if hasattr(options, "client"):
            options.client._release()


def _failed(options: argparse.Namespace, problem: Exception) -> int:
    message = redact(str(problem)).replace("\n", " ")
    if options.json:
        error = {"type": type(problem).__name__, "message": message}
        if isinstance(problem, StripeError):
            error.update(code=problem.code or "", request_id=problem.request_id or "")
        output.print_json({"error": error, "complete": False})
    _complain(message)
    settings = (DestinationError, InvalidEvent, ImportFailed, SpoolMissing)
    return WRONG if isinstance(problem, settings) or not isinstance(problem, UsageError) else UNDELIVERED


if __name__ == "__main__":
    sys.exit(main())

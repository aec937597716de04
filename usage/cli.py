"""The command `usage`: record, deliver, read back and correct, from a shell or a cron job."""

from __future__ import annotations

import argparse
import sys

from .errors import DestinationError, ImportFailed, InvalidEvent, SpoolMissing, StripeError, UsageError, redact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .client import Client

OK, UNDELIVERED, WRONG = 0, 1, 2

_OVERVIEW = """\
Send Stripe meter events and read them back: nothing lost, nothing billed twice.

Every event is first written to a spool file (--spool, STRIPE_USAGE_SPOOL, or a default that `usage status` shows),
with a permanent identifier, and then delivered. Any command can be killed and run again."""

_WHERE = """\
where events go (never guessed):
  STRIPE_API_KEY=sk_test_...   Stripe, test mode
  STRIPE_API_KEY=sk_live_...   Stripe, live mode, and only with --live (or STRIPE_MODE=live)
  STRIPE_MODE=sandbox          the local sandbox, in the file STRIPE_SANDBOX_FILE (.stripe-sandbox/stripe.db)
  STRIPE_MODE=off              nowhere: nothing is recorded (for tests)
  STRIPE_API_BASE=http://...   another address: a served sandbox, a proxy

exit code: 0 when the command did everything, 1 when something is not delivered, refused, skipped or does not agree,
2 for a wrong command or setting, 130 for Ctrl-C."""

# Each command: its name and summary; what else it does; its arguments (see `_argument`); examples.
_COMMANDS = """
send: record one event, deliver it and wait
  With the same --identifier, a second run is the same event and bills once.
- event_name EVENT  event name of the meter
- --customer CUSTOMER!  cus_...
- --value UNITS=1  a decimal number (default 1)
- --identifier NAME  names the fact, at most 100 characters (default: a new one)
- --timestamp WHEN  Unix seconds or ISO 8601 with an offset (default now)
- --dimension KEY=VALUE+  another payload key (repeat for several)
- --correction  allow a negative value
- --no-wait  only record; `usage flush` delivers
- --timeout SECONDS=60  stop waiting after this long (default 60); the event stays in the spool
> send alpaca_ai_tokens --customer cus_123 --value 1200
> send alpaca_ai_tokens --customer cus_123 --value=-200 --correction

import: record the events of a CSV or JSON Lines file and deliver them
  Columns (or keys): customer, value, event_name, timestamp, identifier, dimensions.NAME.
  Bad lines are reported and skipped. A second run bills nothing twice: a row's content is its identity.
- file FILE  a path, or - for standard input
- --format csv|jsonl  default: from the file's extension
- --event NAME  event name for rows without one
- --import-id NAME  names the data; required for rows without timestamp and identifier
- --timestamp WHEN  time for rows without one: ISO 8601, Unix seconds, or now
- --corrections  allow negative values
- --whole  accept a last line without a line break
- --rejects FILE  write the bad lines here, to correct and import them
- --dry-run  check every line, show totals, record nothing
- --no-flush  only record; `usage flush` delivers
- --timeout SECONDS  stop delivering after this long; the rest stays for the next flush
> import tokens.csv --event alpaca_ai_tokens --dry-run
> import - --format jsonl --import-id 2026-11-22    (standard input)

flush: deliver everything recorded
  Safe at any time and from any number of processes; put it in cron.
- --take NAME  also deliver events recorded for NAME (see status), if you know that they belong here
- --outbox sqs://QUEUE  put the events into this queue instead
- --timeout SECONDS  stop delivering after this long; the rest stays for the next flush
> flush --take unassigned    (recorded without a destination)

status: show what is in the spool
  It does not call Stripe.

summary: show usage as Stripe aggregated it
  The window is aligned for you; Stripe's totals lag by seconds to minutes.
- meter EVENT|METER_ID  event name, or mtr_...
- --customer CUSTOMER+  cus_... (repeat for several)
- --subscription SUBSCRIPTION  sub_...: its customer and its current billing period
- --start WHEN  ISO 8601 with an offset, or Unix seconds (default: start of this UTC month)
- --end WHEN  exclusive (default now)
- --group hour|day  one row an hour or UTC day
> summary alpaca_ai_tokens --subscription sub_123    (this billing period)
> summary mtr_123 --customer cus_1 --customer cus_2 --start 2026-11-01T00:00Z --group day

preview-invoice: show the next invoice line by line, as of now
- --subscription SUBSCRIPTION  sub_...
- --customer CUSTOMER  cus_...
> preview-invoice --customer cus_123    (each of its subscriptions)

verify: compare the spool with Stripe's totals, hour by hour
  It changes nothing.
- --event NAME  only this event name
- --customer CUSTOMER+  only this customer (repeat for several)
- --start WHEN  default: everything still in the spool
- --end WHEN  exclusive

errors: list refused events, or apply Stripe's asynchronous error reports
- --fetch  ask Stripe for the reports since the last one
- --limit N=50  show at most this many (default 50)

retry: send refused events again, after fixing the cause
  An event of unknown fate is sent again only if you name it: do that when you know that it did not arrive.
- identifiers IDENTIFIER*  only these
- --code CODE+  only events refused with this code
- --timeout SECONDS  stop delivering after this long; the rest stays for the next flush
> retry IDENTIFIER ...

cancel: cancel an event
  Within 24 hours Stripe removes it; after that, the refusal shows the command for a negative event.
- identifier IDENTIFIER  of the event
- --event NAME  event name, for an event that is not in the spool
- --timeout SECONDS=60  wait up to this long for deliveries (default 60)
> cancel IDENTIFIER --event alpaca_ai_tokens    (an event that is not in this spool)

drain: deliver what producers put into an SQS queue
  Any number of drains can work on one queue.
- --queue sqs://QUEUE!  sqs://NAME or sqs://HOST/ACCOUNT/NAME
- --idle SECONDS=5  end when the queue has been empty for this long (default 5)
- --forever  wait for more until stopped (SIGTERM finishes the batch)
> drain --queue sqs://usage --forever
"""


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 31_536_000:
        raise argparse.ArgumentTypeError("must be between 0 and a year")
    return seconds


def _argument(parser: argparse.ArgumentParser, line: str) -> None:
    """Add an argument: its name, its metavar, and help. After the metavar: ! required, + may be repeated, * any number,
    =... the default. Without a metavar it is a switch; csv|jsonl are choices, SECONDS and N numbers."""
    left, _, words = line.partition("  ")
    name, _, value = left.partition(" ")
    settings: dict[str, Any] = {"help": words}
    if name == "--event":
        settings["dest"] = "event_name"
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
        examples = "\n  usage ".join(["examples:", *lines["> "]]) if lines["> "] else ""
        made = commands.add_parser(
            name, help=summary, description=description, epilog=examples, parents=[common], formatter_class=raw
        )
        name = name.replace("-", "_")
        made.set_defaults(run=globals().get(f"_{name}", _ask), method={"summary": "summaries"}.get(name, name))
        for line in lines["- "]:
            _argument(made, line)
    return parser


def _client(options: argparse.Namespace, **more: Any) -> Client:
    """The client of this process alone; only a command that records may create a spool."""
    from .client import Client

    how = {"mode": options.mode, "background": False, "create": False, "on_error": _complain, **more}
    options.client = Client(options.spool, **how)
    return options.client  # type: ignore[no-any-return]


def _complain(problem: object) -> None:
    print(f"usage: {redact(str(problem))}", file=sys.stderr)


def _print(options: argparse.Namespace, result: Any) -> int:
    """Print a result; the exit code is its verdict."""
    import json

    from .results import as_json

    print(json.dumps(as_json(result), indent=2) if options.json else result)
    return OK if getattr(result, "complete", True) else UNDELIVERED


def _given(options: argparse.Namespace, *besides: str) -> dict[str, Any]:
    """The options of one command, which are the arguments of the method it calls."""
    common = ("spool", "mode", "json", "run", "method", "client", *besides)
    return {name: value for name, value in vars(options).items() if name not in common}


def _ask(options: argparse.Namespace) -> int:
    """A command that calls the client's method of the same name."""
    return _print(options, getattr(_client(options), options.method)(**_given(options)))


def _send(options: argparse.Namespace) -> int:
    event = _given(options, "dimension", "no_wait", "timeout")
    event["dimensions"] = {}
    for pair in options.dimension:
        key, equals, event["dimensions"][key] = pair.partition("=")
        if not equals:
            raise UsageError(f"--dimension {pair!r} is not KEY=VALUE")
    client = _client(options, create=True)
    if not options.no_wait:
        return _print(options, client.send(**event, timeout=options.timeout))
    data = {"identifier": client.record(**event), "state": "pending", "spool": client.spool.path}
    _print(
        options,
        data if options.json else f"recorded {data['identifier']} in {data['spool']}; `usage flush` delivers it",
    )
    return OK if client._delivers() else UNDELIVERED  # recorded as asked, unless there is no destination


def _import(options: argparse.Namespace) -> int:
    from dataclasses import replace

    client = _client(options, create=True)
    recording_only = options.dry_run or options.no_flush
    if not recording_only:
        _ = client.destination  # fail on a missing setting before reading a long file
    source = sys.stdin.buffer if options.file == "-" else options.file
    imported = client.import_file(source, **_given(options, "file", "no_flush", "timeout"))
    if options.dry_run:
        imported = replace(imported, unknown_event_names=client._unknown_event_names(imported))
    if not recording_only:
        imported = replace(imported, flush=client.flush(options.timeout))
    code = _print(options, imported)
    return code if options.dry_run or client._delivers() else UNDELIVERED


def _flush(options: argparse.Namespace) -> int:
    return _print(options, _client(options, outbox=options.outbox).flush(options.timeout, take=options.take))


def _errors(options: argparse.Namespace) -> int:
    client = _client(options)
    if options.fetch:
        return _print(options, client.fetch_error_reports())
    letters = client.dead_letters(options.limit)
    advice = "after the fix: usage retry [--code CODE]; to drop one: usage cancel ID"
    shown = "\n".join([*map(str, letters), f"\n{advice}"] if letters else ["no event was refused"])
    _print(options, {"errors": letters} if options.json else shown)
    return UNDELIVERED if letters else OK


def _retry(options: argparse.Namespace) -> int:
    client = _client(options)
    _ = client.destination
    again = client.retry(codes=options.code, identifiers=options.identifiers)
    missing = len(options.identifiers) - len(again)
    if missing > 0:
        _complain(f"{missing} of these identifiers neither refused nor of unknown fate")
    return _print(options, client.flush(options.timeout)) or (UNDELIVERED if missing > 0 else OK)


def _drain(options: argparse.Namespace) -> int:
    import signal
    import threading

    client = _client(options, create=True)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    idle = None if options.forever else options.idle
    return _print(options, client.drain(options.queue, idle_seconds=idle, stop=stop))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = build_parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # no traceback for an identifier that this terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # the reader of our output (head, less) closed the pipe; leave nothing to flush at exit
        import os

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (UsageError, ValueError, OSError) as problem:
        return _failed(options, problem)
    except KeyboardInterrupt:
        print("usage: interrupted; recorded events are in the spool", file=sys.stderr)
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
        _print(options, {"error": error, "complete": False})
    _complain(message)
    settings = (DestinationError, InvalidEvent, ImportFailed, SpoolMissing)
    return WRONG if isinstance(problem, settings) or not isinstance(problem, UsageError) else UNDELIVERED


if __name__ == "__main__":
    sys.exit(main())

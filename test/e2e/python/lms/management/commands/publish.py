"""Real events through the real producer, as a Django service sends them."""
import itertools
import json
import signal as signals
import sys
import threading
import time
from datetime import datetime, timedelta, timezone

from confluent_kafka.admin import AdminClient, NewTopic
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from edx_event_bus_kafka.internal.config import get_full_topic
from openedx_events.apps import general_signal_handler
from openedx_events.data import EventsMetadata
from openedx_events.event_bus import get_producer

from lms import events, plugin


class Reporter:
    """Stands before the Kafka client of the event bus's producer and prints what the broker has acknowledged."""

    def __init__(self, client):
        self.client = client
        self.acknowledged = self.handed_over = 0
        self.lock = threading.Lock()  # acknowledgements come in the thread that polls, and the producer has one of its own
        self.about = {}  # what to print about the event that is being sent

    def produce(self, topic, on_delivery, **message):
        about = self.about

        def report(error, record):
            on_delivery(error, record)
            with self.lock:
                if error is None:
                    self.acknowledged += 1
                    outcome = {"topic": record.topic(), "partition": record.partition(), "offset": record.offset()}
                else:
                    outcome = {"error": str(error)}
                print(json.dumps({**about, **outcome}), flush=True)

        while True:
            try:
                self.client.produce(topic, on_delivery=report, **message)
                self.handed_over += 1
                return
            except BufferError:  # the client's queue is full: wait for acknowledgements
                self.client.poll(0.1)

    def poll(self, timeout):
        return self.client.poll(timeout)

    def flush(self, timeout):
        return self.client.flush(timeout)


class Command(BaseCommand):
    help = """Sends events and prints a JSON object for each one when the broker has acknowledged it: number, id, time, type,
label, topic, partition, offset; the last line has the sums. Event number n is about learner n of course n modulo 97.
SIGTERM and SIGINT end it after what was sent has been acknowledged. Exits 1 when an event was not."""
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument("--all", action="store_true", help="every signal that serialises, full, sparse and odd, "
                            "not only the six that look like production's")
        parser.add_argument("--type", action="append", default=[], metavar="TEXT",
                            help="only event types that contain it; may be repeated")
        parser.add_argument("--count", type=int, metavar="N",
                            help="events to send, going round; 0: until told to stop; default: each kind once")
        parser.add_argument("--first", type=int, default=1, metavar="N", help="number of the first event")
        parser.add_argument("--rate", type=float, metavar="N", help="events a second; default: as fast as it goes")
        parser.add_argument("--topic", metavar="BASE", help="base topic for all, without the prefix")
        parser.add_argument("--bodies", action="store_true",
                            help="also print as json and form the bodies that the plugin would send for the event")
        parser.add_argument("--plugin", action="store_true",
                            help="the webhooks plugin sends, too, as it does in an LMS: after the event bus")
        parser.add_argument("--slow", type=float, default=0, metavar="SECONDS", help="with --plugin: what another app's handler takes, "
                            "between the event bus's and the plugin's, of every twentieth event")
        parser.add_argument("--ahead", type=float, default=0, metavar="SECONDS", help="how far the events' times lie ahead, or behind")
        parser.add_argument("--create-topics", type=int, metavar="PARTITIONS", help="create the topics that are missing")

    def handle(self, *args, **options):
        good, bad = events.all_signals()
        kinds = list(events.made(good) if options["all"] else events.named())
        kinds = [kind for kind in kinds if not options["type"] or any(t in kind[1].event_type for t in options["type"])]
        if not kinds:
            raise CommandError(f"no event type contains {options['type']}")
        if options["all"]:
            for event_type, reason in sorted(bad.items()):
                print(f"left out: {event_type}: {reason}", file=sys.stderr)

        routes = {signal: (options["topic"] or base, key) for _, signal, _ in kinds for base, key in [events.route(signal)]}
        if options["create_topics"]:
            create_topics({get_full_topic(base) for base, _ in routes.values()}, options["create_topics"])
        for signal, (base, key) in routes.items():
            settings.EVENT_BUS_PRODUCER_CONFIG[signal.event_type] = {base: {"event_key_field": key, "enabled": True}}
            signal.connect(general_signal_handler)
            if options["plugin"]:
                # Handlers are called in the order in which they were connected: in an LMS the event bus is installed before plugins.
                signal.connect(slow_handler(options["slow"]), weak=False)
                signal.connect(plugin.receiver(signal))
        producer = get_producer()
        if not hasattr(producer, "producer"):
            raise CommandError("no producer: set EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS and EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL")
        producer.producer = reporter = Reporter(producer.producer)

        count = len(kinds) if options["count"] is None else options["count"]
        sent = self.send(kinds, reporter, count, options["first"], options["rate"], options["bodies"], options["ahead"])
        producer.prepare_for_shutdown()
        failed = sent - reporter.acknowledged
        print(json.dumps({"sent": sent, "acknowledged": reporter.acknowledged, "failed": failed}), flush=True)
        if failed:
            sys.exit(1)

    def send(self, kinds, reporter, count, first, rate, bodies, ahead):
        """Sends count events, or until a signal comes, and returns how many it sent."""
        stopped = []
        for name in (signals.SIGTERM, signals.SIGINT):
            signals.signal(name, lambda *_: stopped.append(True))
        start = time.monotonic()
        for sent in itertools.count():
            if stopped or (count and sent == count):
                return sent
            if rate:
                time.sleep(max(0, start + sent / rate - time.monotonic()))
            label, signal, data = kinds[sent % len(kinds)]
            at = datetime.now(timezone.utc) + timedelta(seconds=ahead)
            metadata = EventsMetadata(event_type=signal.event_type, minorversion=signal.minor_version, time=at)
            reporter.about = {"number": first + sent, "id": str(metadata.id), "type": signal.event_type, "label": label,
                              "time": at.isoformat()}
            arguments = data(first + sent)
            if bodies:
                reporter.about |= plugin.bodies(metadata, *arguments.values())
            before = reporter.handed_over
            # send_event makes the metadata itself and does not tell the id; this is the rest of what it does.
            signal._send_event_with_metadata(metadata=metadata, send_robust=False, **arguments)
            if reporter.handed_over == before:  # the producer swallows what goes wrong before Kafka, and logs it
                with reporter.lock:
                    print(json.dumps({**reporter.about, "error": "not sent; the log says why"}), flush=True)


def slow_handler(seconds):
    """A handler that takes its time with every twentieth event."""
    calls = itertools.count()

    def handle(**kwargs):
        if next(calls) % 20 == 10:
            time.sleep(seconds)

    return handle


def create_topics(names, partitions):
    """Creates the topics that are missing, as an operator does; the event bus never creates one."""
    admin = AdminClient({"bootstrap.servers": settings.EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS})
    missing = names - set(admin.list_topics(timeout=30).topics)
    for future in admin.create_topics([NewTopic(name, num_partitions=partitions) for name in missing]).values() if missing else ():
        future.result()

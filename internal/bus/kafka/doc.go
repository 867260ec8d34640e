// Package kafka reads the event bus from Kafka: it joins a consumer group, reads the partitions
// that the group assigns to this process, passes each record to a bus.Handler, and commits what the
// handler has released. It promises that
//
//   - an offset is committed only when every record below it has been released, or has no record
//     for us (a gap left by compaction, a transaction marker, records that retention deleted: those
//     are counted and logged);
//   - a commit belongs to the generation that read the records: one that comes too late is refused
//     by the broker, dropped here, and never tried again in another generation;
//   - a partition that is slow or full delays only itself;
//   - a connection that breaks, or whose authentication expires, costs neither the membership nor a
//     commit;
//   - no answer of a broker ends the reading: Run returns only when its context has ended, and
//     nothing dials after that.
//
// It knows nothing about the contents of a record. Two things that a Kafka consumer could do are
// left out: records of aborted transactions are delivered (no publisher of events uses
// transactions), and no order is kept beyond the one in which records are handed over.
//
// # Where reading starts
//
// A committed position always counts. Without one, the answer must not depend on when a process was
// killed, so it is derived from what is durable: positions in Kafka, and one row for each topic in
// TopicState.
//
//	row of the topic        a partition of the topic      a partition without
//	                        has a committed position      a position starts at
//	----------------------  ----------------------------  -----------------------------------------
//	true                    yes or no                     the beginning
//	false or none           yes                           the beginning: the partition was added later
//	false or none           no                            StartOffset: the group is new to the topic
//
// A row is true if the topic was once seen absent while it was wanted, if "*" found it later than
// at the first look, or if its first positions have been committed. It never becomes false again.
// The first positions of a topic are committed for all its partitions in one request, which the
// coordinator applies as a whole or not at all, by the member that owns the lowest partition; the
// owners of the others wait for it. So "some have a position, this one has none" means a partition
// that was added later. The steps, and what a crash between them leaves:
//
//  1. "*" only, at the very first look: a false row for each topic that exists, then a true row for
//     the name "*". After a crash before the last row, the next look is the first one again. Later,
//     a topic without a row is new: true row.
//  2. Commit the first positions. After a crash before that, nothing has been read, and step 2 is
//     done again. Afterwards the positions count, whatever the row says.
//  3. Set the row true. After a crash before that, the third line of the table cannot apply any
//     more while the positions exist, and the next owner that sees them sets the row. If Kafka
//     drops the positions later (a group that was away for longer than offsets.retention.minutes),
//     the topic is read from its beginning: events come twice rather than not at all.
//
// A position below the start of the log moves to the start; the gap is counted in
// webhook_dispatcher_records_lost_total and logged as an error. One above the end of the log (the
// topic was created again, or the log was truncated) moves to the start.
package kafka

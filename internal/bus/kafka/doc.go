// Package bus reads the event bus: it joins a consumer group, reads the partitions that the group gives it, hands each
// record to a bus.Handler, and commits what the handler has released. It promises that
//
//   - an offset is committed only when every record below it has been released, or holds nothing for us (a gap left by
//     compaction, a transaction marker, records that retention has deleted: those are counted and logged);
//   - a commit belongs to the generation that read the records: one that comes too late is refused by the broker, dropped
//     here, and never tried again in another generation;
//   - a partition that is slow or full stops nobody but itself;
//   - nothing that the broker does ends the reading: Run returns only when its context has ended.
//
// It leaves out everything about the contents of a record. Handler and Record hold no type of the Kafka client, so that
// another bus can stand beside this one. Two things that a Kafka consumer could do are not done: records of aborted
// transactions are delivered (the client does not filter them; no publisher of events uses transactions), and no order
// is kept beyond the one in which records are handed over.
//
// # Where reading starts
//
// A committed position is always taken. Without one, the answer must not depend on when a process was killed, so it is
// derived from what is durable: positions in Kafka, and one row a topic in TopicState.
//
//	row of the topic        a partition of the topic      a partition without
//	                        has a committed position      a position starts at
//	----------------------  ----------------------------  ----------------------------------------------
//	true                    yes or no                     the beginning
//	false or none           yes                           the beginning: the partition was added later
//	false or none           no                            StartOffset: the group sees the topic for the first time
//
// A row is true when the topic was once seen absent while it was wanted, when "*" found it later than the first time, or
// when its first positions have been committed. It never becomes false again. The first positions of a topic are committed
// for all its partitions in one request, which the coordinator applies whole or not at all, by the member that owns the
// lowest partition; the owners of the others wait for it. Therefore "some have a position, this one has none" can only be a
// partition that was added later. The steps and what a crash between them leaves:
//
//  1. "*" only, at the very first look: a false row for each topic that exists, then a true row for the name "*". A crash
//     before the last row: the next look is the first one again. After it, a topic without a row was found later: true row.
//  2. Commit the first positions. A crash before: nothing has been read, step 2 again. After: the positions count, whatever
//     the row says.
//  3. Set the row true. A crash before: the third line of the table cannot be reached any more while the positions exist,
//     and the row is set when the next owner sees them. Positions that Kafka has dropped later (a group that was away for
//     longer than offsets.retention.minutes) are then a topic to read from the beginning: events come twice rather than not.
//
// A position below the log's start goes on at the start: the gap is counted in webhook_dispatcher_records_lost_total and logged as
// an error. One above the log's end (the topic was made anew, or the log was cut) goes to the log's start.
package kafka

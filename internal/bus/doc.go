// Package bus is the contract between an event bus and those who take its records. It holds no
// client of a bus: each has a package of its own, such as bus/kafka, and the app picks one.
//
// A bus reads records, hands each to a Handler, and acknowledges it only after the handler has
// released it with Record.Done. It may stop reading a partition when too many of its records are in
// flight or take too much memory; it says so with Handler.Backpressure. A log reader (see
// replay.LogReader) reads a Range of past records again and acknowledges nothing.
//
// What a Position holds is the bus's own business. Redis Streams, for example, fit the contract
// like this:
//
//	                 Kafka                                  Redis Streams
//	Topic            topic                                  stream
//	Partition        partition                              0
//	Position         offset                                 entry id, milliseconds<<20 | sequence
//	Record.Done      moves the checkpoint of the partition  adds the entry to the next XACK
//	acknowledgement  offset below which all are done        each entry
//	end of a turn    rebalance: Drain, commit, rejoin       stop: Drain, XACK the rest
//	Range            offsets, found by time                 entry ids, which are times
//	decoder          decode/confluent, with a registry      bare Avro, with embedded schemas
//
// So dispatch, replay, store and intake use either without a change.
package bus

package bus

// Range is a part of one partition's log: the records from From to before To. There need not be a
// record at each position in between.
type Range struct {
	Topic     string
	Partition int
	From, To  Position
	// Start is where the log began when it was looked at. Above 0, older records are gone.
	Start Position
}

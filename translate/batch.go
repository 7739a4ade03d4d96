package translate

import "time"

// BatchFace is a Face whose clients may put several requests into one body
// (OpBatch). Each item is a request of its own: DecodeRequest reads it, it has
// its own agent, and it fails alone.
type BatchFace interface {
	Face
	// SplitBatch takes the body of a batch apart. The items borrow from it and
	// stand in its order. The error refuses the batch as a whole.
	SplitBatch(body []byte) ([][]byte, *Error)
	// AppendBatch writes the answer of a batch whose items have all ended.
	AppendBatch(dst []byte, b *Batch) []byte
}

// Batch is a batch that has ended.
type Batch struct {
	Seed    string // 32 hexadecimal digits, which the batch's id is made of
	Now     time.Time
	Took    time.Duration
	Results []BatchResult // in the order of the request
}

// BatchResult is how an item of a batch ended.
type BatchResult struct {
	Request *Request // nil if it could not be read
	Agent   *Agent   // nil if none was found
	Body    []byte   // the item's JSON answer, if Err is nil
	Err     *Error
}

package translate

// EventKind is the kind of an Event.
type EventKind uint8

// The events of the neutral stream. Their order is law, and Checker holds it:
// Start first and once (a Ping may precede it, and a Fail may be the only
// event); deltas, annotations and the end only for an open block; blocks may
// overlap; every block closed before Finish; exactly one Finish or Fail, last.
// Fail ends open blocks as failed.
const (
	// EventStart opens the answer: ID, Model, Created, Handle (all optional).
	EventStart EventKind = iota
	// EventBlockStart opens block Index, described by Block.
	EventBlockStart
	// EventBlockDelta adds Data to block Index: decoded UTF-8, whole code
	// points. For a table Data is one row, a JSON array. With Replace, Data is
	// the block's whole new text.
	EventBlockDelta
	// EventAnnotation adds Data, one annotation in the flat form of the
	// Responses API, to text block Index. Offsets count from the start of the
	// block.
	EventAnnotation
	// EventBlockEnd closes block Index: Status, and Opaque (valid for the agent
	// it came from).
	EventBlockEnd
	// EventUsage tells the tokens spent so far. It may repeat; the last one
	// counts.
	EventUsage
	// EventFinish is the end of an answer that is whole: Reason, Word, Tier.
	EventFinish
	// EventFail is the end of one that is not: Err.
	EventFail
	// EventPing says that the backend is alive.
	EventPing
	// EventNative is a frame with no neutral meaning: Name and Data, for an
	// encoder of the same protocol.
	EventNative

	numEventKinds
)

var eventNames = [numEventKinds]string{
	"start", "block_start", "block_delta", "annotation", "block_end", "usage", "finish", "fail", "ping", "native",
}

// String is the name of the kind, as tests write it.
func (k EventKind) String() string { return eventNames[k] }

// Event is one event of an answer. It and everything it refers to belong to
// whoever emitted it and are valid until Sink.Event returns.
type Event struct {
	Kind  EventKind
	Index int // of the block; chosen by the decoder, never reused in an answer

	// EventStart. Handle is the backend's opaque name of the conversation.
	ID      string
	Model   string
	Created int64
	Handle  string

	// EventBlockStart. Msg and Part are ordinals that grow: equal Msg means one
	// message or item, equal Msg and Part one content part. Author and Phase
	// say who speaks.
	Block  *Block
	Msg    int
	Part   int
	Author string
	Phase  Phase

	// EventBlockDelta, EventAnnotation, EventNative.
	Data     []byte
	Logprobs []byte // raw JSON array, nil if none
	Replace  bool

	// EventBlockEnd.
	Status EndStatus
	Opaque string

	// EventUsage.
	Usage Usage

	// EventFinish. Word is the backend's own word for the reason; Tier the
	// service tier that served the request, "" for the default one.
	Reason FinishReason
	Word   string
	Tier   string

	// EventFail.
	Err *Error

	// EventNative: the name of the SSE event.
	Name string
}

// Usage counts tokens. A negative count is one that the backend did not tell:
// absent is not zero.
type Usage struct {
	Input, Output, Total int64

	// Of the input: read from the backend's cache, written to it, heard.
	Cached, Written, AudioIn int64
	// Of the output: thought, spoken, and of a prediction taken and not.
	Reasoning, AudioOut, Accepted, Rejected int64
}

// NoUsage is the usage of which nothing is known.
func NoUsage() Usage {
	return Usage{Input: -1, Output: -1, Total: -1, Cached: -1, Written: -1, AudioIn: -1, Reasoning: -1, AudioOut: -1, Accepted: -1, Rejected: -1}
}

// Known reports whether anything was told.
func (u Usage) Known() bool { return u.Input >= 0 || u.Output >= 0 || u.Total >= 0 }

// Sum is the total, computed where the backend did not tell it; counts that
// are not known are taken as none.
func (u Usage) Sum() int64 {
	if u.Total >= 0 {
		return u.Total
	}
	return max(u.Input, 0) + max(u.Output, 0)
}

// Merge takes from o what it tells.
func (u *Usage) Merge(o Usage) {
	for _, f := range [...]struct {
		to   *int64
		from int64
	}{
		{&u.Input, o.Input}, {&u.Output, o.Output}, {&u.Total, o.Total},
		{&u.Cached, o.Cached}, {&u.Written, o.Written}, {&u.AudioIn, o.AudioIn},
		{&u.Reasoning, o.Reasoning}, {&u.AudioOut, o.AudioOut}, {&u.Accepted, o.Accepted}, {&u.Rejected, o.Rejected},
	} {
		if f.from >= 0 {
			*f.to = f.from
		}
	}
}

// FinishReason is why an answer ended.
type FinishReason uint8

// The reasons of the neutral model.
const (
	FinishStop FinishReason = iota
	FinishLength
	FinishToolCalls
	FinishContentFilter
	FinishPause
	FinishInputRequired
	FinishCancelled
	FinishOther
)

// String is the reason as tests and logs write it.
func (r FinishReason) String() string {
	return [...]string{"stop", "length", "tool_calls", "content_filter", "pause", "input_required", "cancelled", "other"}[r]
}

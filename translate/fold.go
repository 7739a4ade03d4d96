package translate

import "strings"

import "unsafe"

// Fold gathers the events of an answer into whole messages: what a JSON answer
// is written from. It copies what it keeps.
type Fold struct {
	ID      string
	Model   string
	Created int64
	Handle  string
	// Messages are the answer's blocks in the order in which they began,
	// grouped by Msg.
	Messages []FoldMessage
	Usage    Usage
	Reason   FinishReason
	Word     string
	Tier     string
	// Err is the failure, nil if the answer is whole.
	Err   *Error
	Ended bool
	// Size is about the number of bytes kept.
	Size int

	blocks []*foldBlock
	index  map[int]*foldBlock
	byMsg  map[int]int // the place of a message in Messages
}

// foldCost is about what a block takes besides its texts.
const foldCost = 768

// FoldMessage is one message of an answer.
type FoldMessage struct {
	Msg    int
	Author string
	Phase  Phase
	Blocks []FoldBlock
}

// FoldBlock is one block and the content part it belongs to.
type FoldBlock struct {
	Part int
	*Block
}

type foldBlock struct {
	block Block
	text  []byte
	logp  []byte
	ended bool
}

// NewFold makes an empty fold.
func NewFold() *Fold {
	return &Fold{Usage: NoUsage(), index: map[int]*foldBlock{}, byMsg: map[int]int{}}
}

// Event implements Sink.
func (f *Fold) Event(e *Event) {
	switch e.Kind {
	case EventStart:
		f.ID, f.Model, f.Created, f.Handle = clone(e.ID), clone(e.Model), e.Created, clone(e.Handle)
	case EventBlockStart:
		b := &foldBlock{block: cloneBlock(e.Block)}
		b.block.Text = ""
		f.Size += foldCost + e.Block.size()
		f.blocks = append(f.blocks, b)
		f.index[e.Index] = b
		m := f.message(e)
		m.Blocks = append(m.Blocks, FoldBlock{Part: e.Part, Block: &b.block})
	case EventBlockDelta:
		b := f.index[e.Index]
		if b == nil {
			return
		}
		f.Size += len(e.Data) + len(e.Logprobs)
		if b.block.Type == BlockTable {
			f.Size += 16
			b.block.Rows = append(b.block.Rows, string(e.Data))
			return
		}
		if e.Replace {
			b.text = b.text[:0]
		}
		b.text = append(b.text, e.Data...)
		if len(e.Logprobs) > 2 { // more than []
			if len(b.logp) == 0 {
				b.logp = append(b.logp, e.Logprobs...)
			} else {
				b.logp = append(append(b.logp[:len(b.logp)-1], ','), e.Logprobs[1:]...)
			}
		}
	case EventAnnotation:
		if b := f.index[e.Index]; b != nil {
			f.Size += 16 + len(e.Data)
			b.block.Annotations = append(b.block.Annotations, string(e.Data))
		}
	case EventBlockEnd:
		if b := f.index[e.Index]; b != nil {
			b.close()
			b.block.Status = e.Status
			if e.Opaque != "" {
				f.Size += len(e.Opaque)
				b.block.Opaque = clone(e.Opaque)
			}
		}
	case EventUsage:
		f.Usage.Merge(e.Usage)
	case EventFinish:
		f.Reason, f.Word, f.Tier, f.Ended = e.Reason, clone(e.Word), clone(e.Tier), true
	case EventFail:
		for _, b := range f.blocks {
			if !b.ended {
				b.close()
				b.block.Status = StatusFailed
			}
		}
		f.Err, f.Ended = e.Err, true
	}
}

func (b *foldBlock) close() {
	// The block owns the text from here on; nothing appends to it any more.
	if len(b.text) > 0 {
		b.block.Text = unsafe.String(&b.text[0], len(b.text))
	}
	if len(b.logp) > 0 {
		b.block.Logprobs = unsafe.String(&b.logp[0], len(b.logp))
	}
	b.text, b.logp, b.ended = nil, nil, true
}

func (f *Fold) message(e *Event) *FoldMessage {
	if i, ok := f.byMsg[e.Msg]; ok {
		return &f.Messages[i]
	}
	f.byMsg[e.Msg] = len(f.Messages)
	f.Messages = append(f.Messages, FoldMessage{Msg: e.Msg, Author: clone(e.Author), Phase: e.Phase})
	return &f.Messages[len(f.Messages)-1]
}

// Text joins what the answer says: the text blocks, with a blank line between
// messages.
func (f *Fold) Text() string {
	s := ""
	for i := range f.Messages {
		var t strings.Builder
		for _, b := range f.Messages[i].Blocks {
			if b.Type == BlockText {
				t.WriteString(b.Text)
			}
		}
		if s != "" && t.String() != "" {
			s += "\n\n"
		}
		s += t.String()
	}
	return s
}

// Each calls fn for every block in order.
func (f *Fold) Each(fn func(m *FoldMessage, b FoldBlock)) {
	for i := range f.Messages {
		for _, b := range f.Messages[i].Blocks {
			fn(&f.Messages[i], b)
		}
	}
}

func clone(s string) string {
	if s == "" {
		return ""
	}
	return string(append([]byte(nil), s...))
}

// size is the length of the texts that describe the block.
func (b *Block) size() int {
	n := len(b.ID) + len(b.CallID) + len(b.Name) + len(b.Language) + len(b.Style) + len(b.Title) + len(b.Headers) + len(b.URL) +
		len(b.Alt) + len(b.Caption) + len(b.Data) + len(b.MIME) + len(b.FileID) + len(b.Detail) + len(b.Logprobs) + len(b.Opaque) + len(b.Native)
	for i := range b.Parts {
		n += foldCost + len(b.Parts[i].Text) + b.Parts[i].size()
	}
	return n
}

// cloneBlock copies the description of a block, whose strings may borrow from
// a read buffer.
func cloneBlock(b *Block) Block {
	c := *b
	for _, s := range [...]*string{&c.ID, &c.CallID, &c.Name, &c.Language, &c.Style, &c.Title, &c.Headers, &c.URL,
		&c.Alt, &c.Caption, &c.Data, &c.MIME, &c.FileID, &c.Detail, &c.Logprobs, &c.Opaque, &c.Native} {
		*s = clone(*s)
	}
	c.Rows, c.Annotations = nil, nil
	if len(b.Parts) > 0 {
		c.Parts = make([]Block, len(b.Parts))
		for i := range b.Parts {
			c.Parts[i] = cloneBlock(&b.Parts[i])
			c.Parts[i].Text = clone(b.Parts[i].Text)
		}
	}
	return c
}

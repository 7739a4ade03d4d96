package translate

import (
	"bytes"
	"strconv"
	"sync"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// render fits an answer to what a face has words for.
//
// Content that it has no word for becomes Markdown text as it arrives, parted
// from the text around it by blank lines; plain text is never touched.
// Activity that it has no word for is dropped and noted in the ledger under
// one of these names: the type of the block (reasoning, status, step, data,
// tool_result, audio, tool_call), ran_tool_call for a call that the backend
// has run itself (ran_tool_call.arguments where only its name is shown),
// annotations of what is not plain text, logprobs where the face has no place
// for them, image.src for a relative address that
// nobody can resolve, file.data for a file inside a data: URL, replaced_text
// for a new version of what was sent already.
type render struct {
	setup  *Setup
	speaks *Speech
	next   Sink

	open  []renderBlock
	texts []*textState // by message, in the order of their ordinals
	kind  reasoningKind

	md *markdown // content comes one block at a time, so one will do; nil: none has come

	*renderScratch // while an event is at work
}

// renderScratch is what only an event needs: streams wait most of the time, and share
// it.
type renderScratch struct {
	buf   []byte
	block Block
	event Event
}

var renderScratches = sync.Pool{New: func() any { return &renderScratch{} }}

type renderMode uint8

const (
	renderPass      renderMode = iota // as it is
	renderText                        // text, which may need a blank line before it
	renderDrop                        // not at all
	renderMarkdown                    // as Markdown text
	renderReasoning                   // reasoning where only one kind is sent
	renderStep                        // a call that ran, as a step
)

type reasoningKind uint8

const (
	reasoningUnknown reasoningKind = iota
	reasoningRaw
	reasoningSummary
)

// renderBlock is an open block.
type renderBlock struct {
	index    int
	mode     renderMode
	begun    bool // something of it was sent
	thought  bool // it is commentary, sent as reasoning
	text     *textState
	kind     reasoningKind
	inserted int  // code points put before its text
	logprobs bool // the face has a place for them
}

// textState is how the text of a message ends, as far as it was sent.
// Encoders keep messages apart by themselves.
type textState struct {
	msg      int
	author   string // of commentary
	named    bool   // his name was written
	any      bool
	newlines int  // at the end, two at most
	parted   bool // a blank line must stand before what follows
}

// newRender makes the stage. It stands before the serial stage, but content
// comes to it in order: a fence that another block's text runs into would
// close nothing.
func newRender(s *Setup, speaks *Speech, next Sink) Sink {
	r := &render{setup: s, speaks: speaks, next: next}
	return &serial{next: r, only: ContentBlocks}
}

// Event implements Sink.
func (r *render) Event(e *Event) {
	r.renderScratch = renderScratches.Get().(*renderScratch) //nolint:forcetypeassert // the pool holds nothing else
	r.take(e)
	r.block.Text, r.event.Data, r.event.Block = "", nil, nil // nothing of an answer is kept alive
	renderScratches.Put(r.renderScratch)
	r.renderScratch = nil
}

func (r *render) take(e *Event) {
	switch e.Kind {
	case EventBlockDelta:
		if b := r.find(e.Index); b != nil {
			r.delta(b, e)
		}
	case EventBlockStart:
		r.start(e)
	case EventBlockEnd:
		if b := r.find(e.Index); b != nil {
			r.end(b, e)
		}
	case EventAnnotation:
		if b := r.find(e.Index); b != nil {
			r.annotation(b, e)
		}
	default:
		r.next.Event(e)
	}
}

func (r *render) find(index int) *renderBlock {
	for i := len(r.open) - 1; i >= 0; i-- {
		if r.open[i].index == index {
			return &r.open[i]
		}
	}
	return nil
}

func (r *render) note(name string) { r.setup.Ledger.Note(name) }

func (r *render) start(e *Event) {
	s := renderBlock{index: e.Index}
	t := e.Block.Type
	if t == BlockStep || t == BlockToolResult || t == BlockToolCall && e.Block.Ran {
		r.interrupt(e.Msg)
	}
	switch {
	case ContentBlocks.Has(t):
		r.startContent(&s, e)
		return
	case t == BlockToolCall && e.Block.Ran && !r.speaks.Ran:
		if r.speaks.Blocks.Has(BlockStep) {
			r.startStep(&s, e)
			return
		}
		r.note("ran_tool_call")
		s.mode = renderDrop
	case !r.speaks.Blocks.Has(t) || t == BlockToolResult && !r.speaks.Ran:
		r.note(t.String())
		s.mode = renderDrop
	case t == BlockReasoning:
		if r.speaks.OneReasoning {
			s.mode, s.kind = renderReasoning, reasoningRaw
			if e.Block.Summary {
				s.kind = reasoningSummary
			}
		}
	}
	r.open = append(r.open, s)
	if s.mode != renderDrop {
		r.next.Event(e)
	}
}

// interrupt notes that the agent did something amid its text. Where the client
// sees nothing of it, the text before and the text after would run together.
func (r *render) interrupt(msg int) {
	if r.speaks.Blocks.Has(BlockStep) {
		return
	}
	if t := r.textOf(msg); t.any {
		t.parted = true
	}
}

// startContent opens a block of content: as it is, as Markdown, or, where the
// face does not tell commentary from the answer, in the reasoning.
func (r *render) startContent(s *renderBlock, e *Event) {
	block, t := e.Block, e.Block.Type
	if (t == BlockImage || t == BlockFile) && block.URL != "" && isRelative(block.URL) {
		block = r.resolve(block)
	}
	commentary := e.Phase == PhaseCommentary && !r.speaks.Phase && r.speaks.Blocks.Has(BlockReasoning)
	switch {
	case t == BlockText:
		s.mode = renderText
	case commentary || !r.speaks.Blocks.Has(t):
		s.mode = renderMarkdown
	}
	if s.mode == renderMarkdown || commentary {
		r.block = Block{Type: BlockText, ID: block.ID, Path: block.Path}
		if commentary {
			r.block.Type, r.block.Summary = BlockReasoning, r.kind == reasoningSummary
		}
	} else {
		r.block = *block
	}
	if s.mode != renderPass {
		s.text = r.textOf(e.Msg)
	}
	if s.thought = commentary; commentary && s.text.author == "" {
		s.text.author = clone(e.Author)
	}
	s.logprobs = !commentary && r.speaks.Logprobs.Has(t)
	r.open = append(r.open, *s)
	r.event = *e
	r.event.Block = &r.block
	if commentary {
		r.event.Part = 0 // its parts are one text now
	}
	r.next.Event(&r.event)
	if s.mode == renderMarkdown {
		if t == BlockFile && (block.Data != "" || isDataURL(block.URL)) {
			r.note("file.data")
		}
		b := &r.open[len(r.open)-1]
		if r.md == nil {
			r.md = &markdown{}
		}
		r.buf = r.md.start(r.buf[:0], block)
		r.send(b)
	}
}

// startStep shows a call that the backend has run as a step of that name.
func (r *render) startStep(s *renderBlock, e *Event) {
	s.mode = renderStep
	r.open = append(r.open, *s)
	r.block = Block{Type: BlockStep, ID: e.Block.ID, CallID: e.Block.CallID, Name: e.Block.Name, Title: e.Block.Title, Ran: true, Path: e.Block.Path}
	r.event = *e
	r.event.Block = &r.block
	r.next.Event(&r.event)
	if name := firstOf(e.Block.Title, e.Block.Name); name != "" {
		r.buf = append(r.buf[:0], name...)
		r.text(e.Index, r.buf)
	}
}

// text sends a delta of ours.
func (r *render) text(index int, data []byte) {
	r.event = Event{Kind: EventBlockDelta, Index: index, Data: data}
	r.next.Event(&r.event)
}

// resolve makes a copy of a block whose URL is relative.
func (r *render) resolve(b *Block) *Block {
	base := ""
	if r.setup.Agent != nil {
		base = r.setup.Agent.Option("public_url", "")
	}
	if base == "" {
		r.note("image.src")
		return b
	}
	c := *b
	c.URL = resolveURL(base, b.URL)
	return &c
}

func (r *render) delta(b *renderBlock, e *Event) {
	if len(e.Logprobs) > 2 && !b.logprobs { // more than []
		r.note("logprobs")
	}
	switch b.mode {
	case renderPass:
		r.next.Event(e)
	case renderText:
		if !b.begun && !(b.text.parted && b.text.any && !b.thought && onlyNewlines(e.Data)) { // those count when words follow
			e = r.first(b, e)
		}
		b.text.add(e.Data)
		r.next.Event(e)
	case renderReasoning:
		if r.kind == reasoningUnknown {
			r.kind = b.kind
		}
		if r.kind != b.kind {
			r.note("reasoning")
			return
		}
		r.next.Event(e)
	case renderStep:
		r.note("ran_tool_call.arguments")
	case renderMarkdown:
		if e.Replace && b.begun && r.md.typ != BlockTable {
			r.note("replaced_text")
			return
		}
		r.buf = r.md.delta(r.buf[:0], e.Data)
		r.send(b)
	}
}

// first is the first delta of a block of text, with what must stand before it.
//
//go:noinline
func (r *render) first(b *renderBlock, e *Event) *Event {
	prefix := r.begin(b, e.Data)
	if prefix == "" {
		return e
	}
	r.event = *e
	r.buf = append(append(r.buf[:0], prefix...), e.Data...)
	r.event.Data = r.buf
	return &r.event
}

func (r *render) annotation(b *renderBlock, e *Event) {
	switch {
	case b.mode == renderPass || b.mode == renderText && !b.thought && b.inserted == 0:
		r.next.Event(e)
	case b.mode == renderText && !b.thought:
		r.event = *e
		r.event.Data = shiftAnnotation(nil, e.Data, b.inserted)
		r.next.Event(&r.event)
	default:
		r.note("annotations")
	}
}

func (r *render) end(b *renderBlock, e *Event) {
	if b.mode == renderMarkdown {
		r.buf = r.md.end(r.buf[:0])
		r.send(b)
		b.text.parted = b.text.parted || b.begun
	}
	drop := b.mode == renderDrop
	for i := range r.open {
		if r.open[i].index == e.Index {
			r.open = append(r.open[:i], r.open[i+1:]...)
			break
		}
	}
	if !drop {
		r.next.Event(e)
	}
}

// send sends the Markdown in r.buf.
func (r *render) send(b *renderBlock) {
	if len(r.buf) == 0 {
		return
	}
	if !b.begun {
		// Markdown begins a paragraph of its own.
		b.text.parted = b.text.any
		if prefix := r.begin(b, nil); prefix != "" {
			r.buf = append(r.buf, prefix...)
			n := len(r.buf) - len(prefix)
			copy(r.buf[len(prefix):], r.buf[:n])
			copy(r.buf, prefix)
		}
	}
	b.text.add(r.buf)
	r.text(b.index, r.buf)
}

// begin is what must stand before the first text of a block: the blank line
// between Markdown and what surrounds it, and the name of commentary's author.
func (r *render) begin(b *renderBlock, first []byte) string {
	t := b.text
	b.begun = true
	prefix := ""
	if t.parted && t.any {
		n := 2 - t.newlines
		for i := 0; i < len(first) && n > 0 && first[i] == '\n'; i++ {
			n--
		}
		prefix = "\n\n"[:max(n, 0)]
	}
	t.parted = false
	if b.thought && !t.named {
		t.named = true
		switch {
		case t.author == "":
		case b.mode == renderMarkdown:
			prefix = t.author + ":\n\n"
		default:
			prefix = t.author + ": "
		}
	}
	b.inserted += utf8.RuneCountInString(prefix)
	return prefix
}

func onlyNewlines(p []byte) bool {
	for _, c := range p {
		if c != '\n' {
			return false
		}
	}
	return true
}

// textOf is the state of a message's text.
func (r *render) textOf(msg int) *textState {
	i := len(r.texts)
	for i > 0 && r.texts[i-1].msg > msg {
		i--
	}
	if i > 0 && r.texts[i-1].msg == msg {
		return r.texts[i-1]
	}
	t := &textState{msg: msg}
	r.texts = append(r.texts, nil)
	copy(r.texts[i+1:], r.texts[i:])
	r.texts[i] = t
	return t
}

// add notes how the text ends now.
func (t *textState) add(p []byte) {
	n := 0
	for n < len(p) && n < 2 && p[len(p)-1-n] == '\n' {
		n++
	}
	if n == len(p) {
		n = min(n+t.newlines, 2)
	}
	t.newlines, t.any = n, true
}

// shiftAnnotation appends an annotation in the flat form of the Responses API
// with its offsets moved by n code points.
func shiftAnnotation(dst, a []byte, n int) []byte {
	if n == 0 {
		return append(dst, a...)
	}
	start := len(dst)
	dst = append(dst, a...)
	for _, key := range [...]string{"start_index", "end_index"} {
		v := gjson.Get(viewString(dst[start:]), key)
		if v.Type != gjson.Number || v.Index == 0 {
			continue
		}
		at := start + v.Index
		tail := bytes.Clone(dst[at+len(v.Raw):])
		dst = strconv.AppendInt(dst[:at], v.Int()+int64(n), 10)
		dst = append(dst, tail...)
	}
	return dst
}

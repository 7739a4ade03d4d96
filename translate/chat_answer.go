package translate

import (
	"strconv"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// completionEncoder writes an answer as chat.completion.chunks. The constant
// parts of a chunk are rendered once a stream.
type completionEncoder struct {
	s *Setup

	head    []byte // a frame up to its delta's first member
	textual []byte // the same up to the text of a content delta
	tail    string // the rest of a frame after its delta's last member
	closing string // the same after a string and with the delta's end

	blocks  []openBlock
	calls   int    // client's calls so far
	chars   int    // code points of content so far
	textMsg int    // the message that the content written last belongs to, -1 if none
	cited   []byte // annotations, for the end
	counted Usage
	created int64

	bare     bool // Ticos: no refusal, no logprobs
	logprobs bool // the client asked for them
	usage    bool // the client asked for the usage chunk
	legacy   bool // the client offered functions, not tools
	thought  bool
	finished bool
}

// openBlock is a block that the encoder has seen the start of.
type openBlock struct {
	index  int
	typ    BlockType
	custom bool
	call   int  // the tool call's index; -1: it is not written
	msg    int  // of text: the message it belongs to
	apart  bool // a blank line goes before its first text
	from   int  // where its text begins in the content, in code points
	sent   bool
}

func newCompletionEncoder(s *Setup, bare bool) *completionEncoder {
	e := &completionEncoder{s: s, bare: bare, textMsg: -1, counted: NoUsage(), created: s.Created}
	if r := s.Request; r != nil {
		e.usage = r.IncludeUsage
		e.logprobs = !bare && wantsLogprobs(r)
		e.legacy = offersFunctions(r)
	}
	e.render()
	return e
}

// render makes the constant parts.
func (e *completionEncoder) render() {
	const room = len(`data: {"id":"chatcmpl-00000000000000000000000000000000","object":"chat.completion.chunk","created":0000000000,"model":"",`)
	const delta, content = `"choices":[{"index":0,"delta":{`, `"content":"`
	if e.textual == nil { // as long as it is needed: there is one a stream
		e.textual = make([]byte, 0, room+len(e.s.Model())+len(delta)+len(content))
	}
	e.textual = append(append(e.frame(e.textual[:0]), delta...), content...)
	n := len(e.textual) - len(content)
	e.head = e.textual[:n:n]
	switch {
	case e.bare && e.usage:
		e.tail = `},"finish_reason":null}],"usage":null}` + "\n\n"
	case e.bare:
		e.tail = `},"finish_reason":null}]}` + "\n\n"
	case e.usage:
		e.tail = `},"logprobs":null,"finish_reason":null}],"usage":null}` + "\n\n"
	default:
		e.tail = `},"logprobs":null,"finish_reason":null}]}` + "\n\n"
	}
	e.closing = `"` + e.tail
}

// frame begins a frame.
func (e *completionEncoder) frame(dst []byte) []byte {
	dst = append(dst, `data: {"id":"`...)
	dst = e.s.AppendID(dst, "chatcmpl-", -1)
	dst = append(dst, `","object":"chat.completion.chunk","created":`...)
	dst = strconv.AppendInt(dst, e.created, 10)
	dst = append(dst, `,"model":`...)
	dst = jsonx.AppendStringS(dst, e.s.Model())
	return append(dst, ',')
}

func wantsLogprobs(r *Request) bool {
	raw, _ := r.Setting(ParamLogprobs)
	return raw == "true"
}

// offersFunctions reports whether the client speaks the deprecated dialect, in
// which it must be answered then.
func offersFunctions(r *Request) bool {
	return len(r.Tools) > 0 && r.Tools[0].Path.Base == "functions"
}

// Encode implements Encoder. What nearly all events are stands apart from the rest, so
// that it takes little of a stream's stack.
func (e *completionEncoder) Encode(dst []byte, ev *Event) []byte {
	if ev.Kind == EventBlockDelta {
		return e.delta(dst, ev)
	}
	return e.rare(dst, ev)
}

//go:noinline
func (e *completionEncoder) rare(dst []byte, ev *Event) []byte {
	switch ev.Kind {
	case EventStart:
		if ev.Created > 0 && ev.Created != e.created {
			e.created = ev.Created
			e.render()
		}
		dst = append(append(dst, e.head...), `"role":"assistant","content":""`...)
		if !e.bare {
			dst = append(dst, `,"refusal":null`...)
		}
		return append(dst, e.tail...)
	case EventBlockStart:
		return e.open(dst, ev)
	case EventBlockEnd:
		for i := range e.blocks {
			if b := &e.blocks[i]; b.index == ev.Index {
				if b.typ == BlockToolCall && !b.custom && !b.sent && ev.Status == StatusComplete {
					// A call without arguments: no client parses an empty text.
					dst = e.arguments(dst, b, noArguments)
				}
				e.blocks = append(e.blocks[:i], e.blocks[i+1:]...)
				break
			}
		}
	case EventAnnotation:
		if e.annotation(ev); len(e.cited) > MaxAnswer {
			dst = e.citations(dst)
		}
	case EventUsage:
		e.counted.Merge(ev.Usage)
	case EventFinish:
		return e.finish(dst, ev)
	case EventFail:
		return appendCompletionFailure(e.citations(dst), ev.Err)
	}
	return dst
}

var noArguments = []byte("{}")

func (e *completionEncoder) open(dst []byte, ev *Event) []byte {
	b := openBlock{index: ev.Index, typ: ev.Block.Type, custom: ev.Block.Custom, from: e.chars}
	switch b.typ {
	case BlockText:
		// One content holds all messages: a blank line keeps them apart.
		b.apart = e.chars > 0 && e.textMsg != ev.Msg
		if b.apart {
			b.from += 2
		}
		b.msg = ev.Msg
	case BlockReasoning:
		b.apart = e.thought
	case BlockToolCall:
		b.call = e.calls
		switch {
		case ev.Block.Ran:
			b.call = -1
		case !e.legacy:
			e.calls++
			dst = append(append(dst, e.head...), `"tool_calls":[{"index":`...)
			dst = strconv.AppendInt(dst, int64(b.call), 10)
			dst = append(dst, `,"id":`...)
			dst = jsonx.AppendStringS(dst, ev.Block.CallID)
			if b.custom {
				dst = append(dst, `,"type":"custom","custom":{"name":`...)
				dst = jsonx.AppendStringS(dst, ev.Block.Name)
				dst = append(dst, `,"input":""}}]`...)
			} else {
				dst = append(dst, `,"type":"function","function":{"name":`...)
				dst = jsonx.AppendStringS(dst, ev.Block.Name)
				dst = append(dst, `,"arguments":""}}]`...)
			}
			dst = append(dst, e.tail...)
		case e.calls > 0: // there was only ever one function_call
			b.call = -1
			e.s.Ledger.Note("tool_calls")
		default:
			e.calls++
			dst = append(append(dst, e.head...), `"function_call":{"name":`...)
			dst = jsonx.AppendStringS(dst, ev.Block.Name)
			dst = append(append(dst, `,"arguments":""}`...), e.tail...)
		}
	}
	e.blocks = append(e.blocks, b)
	return dst
}

func (e *completionEncoder) delta(dst []byte, ev *Event) []byte {
	var b *openBlock
	for i := len(e.blocks) - 1; i >= 0; i-- {
		if e.blocks[i].index == ev.Index {
			b = &e.blocks[i]
			break
		}
	}
	if b == nil {
		return dst
	}
	if ev.Replace && b.sent {
		// What was sent cannot be taken back.
		e.s.Ledger.Note("replaced_text")
		return dst
	}
	switch b.typ {
	case BlockText:
		dst = append(dst, e.textual...)
		if b.apart {
			b.apart = false
			dst = append(dst, `\n\n`...)
			e.chars += 2
		}
		e.textMsg = b.msg // not before: an empty block parts nothing
		e.chars += utf8.RuneCount(ev.Data)
	case BlockReasoning:
		dst = append(append(dst, e.head...), `"reasoning_content":"`...)
		if b.apart {
			b.apart = false
			dst = append(dst, `\n\n`...)
		}
		e.thought = true
	case BlockRefusal:
		dst = append(append(dst, e.head...), `"refusal":"`...)
	case BlockToolCall:
		return e.arguments(dst, b, ev.Data)
	default:
		return dst
	}
	b.sent = true
	dst = jsonx.AppendEscaped(dst, ev.Data)
	if !e.logprobs || len(ev.Logprobs) == 0 {
		return append(dst, e.closing...)
	}
	dst = append(dst, `"},"logprobs":`...)
	dst = appendLogprobs(dst, b.typ, ev.Logprobs)
	return append(dst, e.tail[len(`},"logprobs":null`):]...)
}

//go:noinline
func (e *completionEncoder) arguments(dst []byte, b *openBlock, data []byte) []byte {
	if b.call < 0 {
		return dst
	}
	b.sent = true
	dst = append(dst, e.head...)
	if e.legacy {
		dst = append(dst, `"function_call":{"arguments":"`...)
		dst = jsonx.AppendEscaped(dst, data)
		return append(append(dst, `"}`...), e.tail...)
	}
	dst = append(dst, `"tool_calls":[{"index":`...)
	dst = strconv.AppendInt(dst, int64(b.call), 10)
	if b.custom {
		dst = append(dst, `,"custom":{"input":"`...)
	} else {
		dst = append(dst, `,"function":{"arguments":"`...)
	}
	dst = jsonx.AppendEscaped(dst, data)
	return append(append(dst, `"}}]`...), e.tail...)
}

//go:noinline
func appendLogprobs(dst []byte, t BlockType, raw []byte) []byte {
	if t == BlockRefusal {
		dst = append(dst, `{"content":null,"refusal":`...)
		return append(append(dst, raw...), '}')
	}
	dst = append(dst, `{"content":`...)
	return append(append(dst, raw...), `,"refusal":null}`...)
}

// annotation keeps an annotation until the end. They have no index, and so they
// must come all at once: the Python SDK's stream helper raises an error at a
// second list of them, and that of Node.js puts it in the place of the first.
func (e *completionEncoder) annotation(ev *Event) {
	for i := range e.blocks {
		if e.blocks[i].index != ev.Index {
			continue
		}
		mark := len(e.cited)
		if mark > 0 {
			e.cited = append(e.cited, ',')
		}
		var ok bool
		if e.cited, ok = appendCitation(e.cited, viewString(ev.Data), e.blocks[i].from); !ok {
			e.cited = e.cited[:mark]
			e.s.Ledger.Note("annotations")
		}
		return
	}
}

// citations writes the annotations so far, if any.
func (e *completionEncoder) citations(dst []byte) []byte {
	if len(e.cited) == 0 {
		return dst
	}
	dst = append(append(dst, e.head...), `"annotations":[`...)
	dst = append(append(dst, e.cited...), ']')
	e.cited = e.cited[:0]
	return append(dst, e.tail...)
}

// appendCitation writes a flat annotation in Chat's nested form, its offsets
// shifted by the content before its block. Chat knows citations of web pages
// only; of another kind ok is false.
func appendCitation(dst []byte, flat string, shift int) (_ []byte, ok bool) {
	a := gjson.Parse(flat)
	if a.Get("type").Str != "url_citation" {
		return dst, false
	}
	dst = append(dst, `{"type":"url_citation","url_citation":{`...)
	first := true
	a.ForEach(func(k, v gjson.Result) bool {
		if k.Str == "type" {
			return true
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(append(dst, k.Raw...), ':')
		if shift > 0 && v.Type == gjson.Number && (k.Str == "start_index" || k.Str == "end_index") {
			dst = strconv.AppendInt(dst, v.Int()+int64(shift), 10)
		} else {
			dst = jsonx.AppendCompact(dst, viewBytes(v.Raw))
		}
		return true
	})
	return append(dst, "}}"...), true
}

func (e *completionEncoder) finish(dst []byte, ev *Event) []byte {
	if e.finished {
		return dst
	}
	e.finished = true
	dst = append(e.citations(dst), e.head...)
	dst = append(dst, e.tail[:len(e.tail)-len(e.tailEnd())]...)
	dst = append(append(append(dst, '"'), finishWord(e.s, ev.Reason, e.calls > 0, e.legacy)...), '"')
	end := e.tailEnd()[len("null"):]
	if ev.Tier != "" && !e.bare {
		dst = append(dst, end[:len(end)-len("}\n\n")]...)
		dst = appendTier(dst, ev.Tier)
		end = "}\n\n"
	}
	dst = append(dst, end...)
	if e.usage && e.counted.Known() { // absent is not zero
		dst = append(e.frame(dst), `"choices":[],"usage":`...)
		dst = appendCompletionUsage(dst, e.counted, e.bare)
		dst = append(dst, "}\n\n"...)
	}
	return append(dst, "data: [DONE]\n\n"...)
}

// appendTier writes the member that tells the service tier.
func appendTier(dst []byte, tier string) []byte {
	return jsonx.AppendStringS(append(dst, `,"service_tier":`...), tier)
}

// tailEnd is the tail from the value of finish_reason on.
func (e *completionEncoder) tailEnd() string {
	if e.usage {
		return `null}],"usage":null}` + "\n\n"
	}
	return "null}]}\n\n"
}

// finishWord is the finish_reason. A cut or filtered answer says so even where it
// holds a call, whose arguments may not be whole then.
func finishWord(s *Setup, reason FinishReason, calls, legacy bool) string {
	switch reason {
	case FinishLength:
		return "length"
	case FinishContentFilter:
		return "content_filter"
	case FinishPause, FinishInputRequired, FinishCancelled, FinishOther:
		s.Ledger.Note("finish_reason")
	}
	switch {
	case calls && legacy:
		return "function_call"
	case calls:
		return "tool_calls"
	}
	return "stop"
}

// appendCompletionUsage writes token counts; details only where they are known.
func appendCompletionUsage(dst []byte, u Usage, bare bool) []byte {
	dst = append(dst, `{"prompt_tokens":`...)
	dst = strconv.AppendInt(dst, max(u.Input, 0), 10)
	dst = append(dst, `,"completion_tokens":`...)
	dst = strconv.AppendInt(dst, max(u.Output, 0), 10)
	dst = append(dst, `,"total_tokens":`...)
	dst = strconv.AppendInt(dst, u.Sum(), 10)
	if bare {
		return append(dst, '}')
	}
	open := false
	detail := func(of, key string, n int64) {
		if n < 0 {
			return
		}
		if open {
			dst = append(dst, ',')
		} else {
			dst, open = append(dst, of...), true
		}
		dst = strconv.AppendInt(append(dst, key...), n, 10)
	}
	const prompt, completion = `,"prompt_tokens_details":{`, `,"completion_tokens_details":{`
	detail(prompt, `"cached_tokens":`, u.Cached)
	detail(prompt, `"cache_write_tokens":`, u.Written)
	detail(prompt, `"audio_tokens":`, u.AudioIn)
	if open {
		dst, open = append(dst, '}'), false
	}
	detail(completion, `"reasoning_tokens":`, u.Reasoning)
	detail(completion, `"audio_tokens":`, u.AudioOut)
	detail(completion, `"accepted_prediction_tokens":`, u.Accepted)
	detail(completion, `"rejected_prediction_tokens":`, u.Rejected)
	if open {
		dst = append(dst, '}')
	}
	return append(dst, '}')
}

// appendCompletion writes a folded answer as a chat.completion.
func appendCompletion(dst []byte, s *Setup, f *Fold, bare bool) []byte {
	legacy := s.Request != nil && offersFunctions(s.Request)
	logprobs := !bare && s.Request != nil && wantsLogprobs(s.Request)
	created := f.Created
	if created <= 0 {
		created = s.Created
	}
	dst = append(dst, `{"id":"`...)
	dst = s.AppendID(dst, "chatcmpl-", -1)
	dst = append(dst, `","object":"chat.completion","created":`...)
	dst = strconv.AppendInt(dst, created, 10)
	dst = append(dst, `,"model":`...)
	dst = jsonx.AppendStringS(dst, s.Model())
	dst = append(dst, `,"choices":[{"index":0,"message":{"role":"assistant","content":`...)

	var g completionParts
	g.gather(s, f)
	if len(g.text) == 0 && (len(g.calls) > 0 || len(g.refusal) > 0) {
		dst = append(dst, "null"...)
	} else {
		dst = jsonx.AppendString(dst, g.text)
	}
	if !bare {
		dst = append(dst, `,"refusal":`...)
		if len(g.refusal) > 0 {
			dst = jsonx.AppendString(dst, g.refusal)
		} else {
			dst = append(dst, "null"...)
		}
	}
	if len(g.reasoning) > 0 {
		dst = append(dst, `,"reasoning_content":`...)
		dst = jsonx.AppendString(dst, g.reasoning)
	}
	if len(g.annotations) > 0 {
		dst = append(dst, `,"annotations":[`...)
		dst = append(append(dst, g.annotations...), ']')
	}
	dst = appendCompletionCalls(dst, s, g.calls, legacy)
	dst = append(dst, '}')
	if !bare {
		dst = append(dst, `,"logprobs":`...)
		if logprobs && (len(g.logprobs) > 0 || len(g.refusalLogprobs) > 0) {
			dst = append(dst, `{"content":`...)
			dst = appendRawArray(dst, g.logprobs)
			dst = append(dst, `,"refusal":`...)
			dst = append(appendRawArray(dst, g.refusalLogprobs), '}')
		} else {
			dst = append(dst, "null"...)
		}
	}
	dst = append(dst, `,"finish_reason":"`...)
	dst = append(append(dst, finishWord(s, f.Reason, len(g.calls) > 0, legacy)...), `"}]`...)
	if f.Usage.Known() {
		dst = append(dst, `,"usage":`...)
		dst = appendCompletionUsage(dst, f.Usage, bare)
	}
	if f.Tier != "" && !bare {
		dst = appendTier(dst, f.Tier)
	}
	return append(dst, '}')
}

// appendRawArray writes the elements of an array, null if there are none.
func appendRawArray(dst, elements []byte) []byte {
	if len(elements) == 0 {
		return append(dst, "null"...)
	}
	return append(append(append(dst, '['), elements...), ']')
}

func appendCompletionCalls(dst []byte, s *Setup, calls []*Block, legacy bool) []byte {
	if len(calls) == 0 {
		return dst
	}
	if legacy {
		if len(calls) > 1 {
			s.Ledger.Note("tool_calls")
		}
		dst = append(dst, `,"function_call":`...)
		return appendFunction(dst, calls[0], "arguments")
	}
	dst = append(dst, `,"tool_calls":[`...)
	for i, b := range calls {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendToolCall(dst, b)
	}
	return append(dst, ']')
}

// appendToolCall writes a whole call, as answers and requests have it.
func appendToolCall(dst []byte, b *Block) []byte {
	dst = append(dst, `{"id":`...)
	dst = jsonx.AppendStringS(dst, b.CallID)
	if b.Custom {
		dst = append(dst, `,"type":"custom","custom":`...)
		dst = appendFunction(dst, b, "input")
	} else {
		dst = append(dst, `,"type":"function","function":`...)
		dst = appendFunction(dst, b, "arguments")
	}
	return append(dst, '}')
}

func appendFunction(dst []byte, b *Block, field string) []byte {
	dst = append(dst, `{"name":`...)
	dst = jsonx.AppendStringS(dst, b.Name)
	dst = append(append(append(dst, `,"`...), field...), `":`...)
	text := b.Text
	if text == "" && !b.Custom && b.Status == StatusComplete {
		text = "{}" // a call without arguments: nobody parses an empty text
	}
	dst = jsonx.AppendStringS(dst, text)
	return append(dst, '}')
}

// completionParts is an answer sorted into the fields of one message.
type completionParts struct {
	text, reasoning, refusal  []byte
	annotations               []byte // elements
	logprobs, refusalLogprobs []byte // elements
	calls                     []*Block
}

func (g *completionParts) gather(s *Setup, f *Fold) {
	chars, last := 0, -1
	f.Each(func(m *FoldMessage, b FoldBlock) {
		switch b.Type {
		case BlockText:
			if b.Text != "" {
				if len(g.text) > 0 && last != m.Msg {
					g.text = append(g.text, "\n\n"...)
					chars += 2
				}
				last = m.Msg
			}
			g.text = append(g.text, b.Text...)
			g.logprobs = appendElements(g.logprobs, b.Logprobs)
			for _, a := range b.Annotations {
				mark := len(g.annotations)
				if mark > 0 {
					g.annotations = append(g.annotations, ',')
				}
				var ok bool
				if g.annotations, ok = appendCitation(g.annotations, a, chars); !ok {
					g.annotations = g.annotations[:mark]
					s.Ledger.Note("annotations")
				}
			}
			chars += utf8.RuneCountInString(b.Text)
		case BlockReasoning:
			if len(g.reasoning) > 0 && b.Text != "" {
				g.reasoning = append(g.reasoning, "\n\n"...)
			}
			g.reasoning = append(g.reasoning, b.Text...)
		case BlockRefusal:
			g.refusal = append(g.refusal, b.Text...)
			g.refusalLogprobs = appendElements(g.refusalLogprobs, b.Logprobs)
		case BlockToolCall:
			if !b.Ran {
				g.calls = append(g.calls, b.Block)
			}
		}
	})
}

// appendElements adds the elements of a raw array.
func appendElements(dst []byte, raw string) []byte {
	if len(raw) <= 2 {
		return dst
	}
	if len(dst) > 0 {
		dst = append(dst, ',')
	}
	return append(dst, raw[1:len(raw)-1]...)
}

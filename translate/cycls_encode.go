package translate

import (
	"bytes"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/sse"
)

// cyclsSeparator stands between two components of one type that are not pieces
// of one. The web client up to .146 drops the second of two images, puts the
// rows of a second table under the first one's headers, and all versions join
// two callouts. Any component of another type between them prevents it; a text
// is the one that every client of every version knows, and a line feed is seen
// by nobody. It is not empty because the vendor's own code skips empty items.
const cyclsSeparator = `data: {"type": "text", "text": "\n"}` + "\n\n"

// cyclsEncoder writes a stream as the server does: Python's spacing after
// colons and commas, an exact "data: " before each object (the web client looks
// for just that). Other than the server's, its text is raw UTF-8 and not
// escaped to ASCII; any JSON parser reads both.
//
// The serial stage stands before it, so that one block is open at a time.
type cyclsEncoder struct {
	s *Setup

	last BlockType // type of the component written last
	any  bool      // there was one
	data []byte    // the type of a component of the agent's own written last
	msg  int       // ordinals of the text or reasoning written last
	part int

	// The open block: deltas are written at once between pre and post, or
	// gathered in buf and written at the block's end.
	block   BlockType
	ran     bool
	gather  bool
	begun   bool // something of it has been written
	newMsg  int
	newPart int
	pre     []byte
	post    []byte
	sent    int // bytes of text, for snapshots
	buf     []byte

	isError bool
	custom  bool
	logp    bool   // the loss of logprobs is noted
	headers []byte // of a table, not yet written
	noHead  bool
}

// NewEncoder implements Face.
func (cyclsCodec) NewEncoder(s *Setup) Encoder { return &cyclsEncoder{s: s} }

// Encode implements Encoder.
func (c *cyclsEncoder) Encode(dst []byte, e *Event) []byte {
	switch e.Kind {
	case EventBlockDelta:
		return c.delta(dst, e)
	case EventBlockStart:
		return c.start(dst, e)
	case EventBlockEnd:
		return c.end(dst, e.Status)
	case EventStart:
		if k := c.s.Keep; k != nil && k.Announce != "" {
			return appendCyclsID(dst, k)
		}
	case EventAnnotation:
		c.s.Ledger.Note("annotations")
	case EventPing:
		// A ping component would split the text around it in the web client.
		return sse.AppendComment(dst, "ping")
	case EventFinish:
		noteCyclsFinish(c.s, e.Reason)
		return append(dst, cyclsDone...)
	case EventFail:
		return c.fail(dst, e.Err)
	}
	// Usage has no place, and no
	// client of this protocol ever got one, so that it is not a loss to name. A
	// native frame has been read into blocks by our own decoder.
	return dst
}

// noteCyclsFinish: the protocol has one end, [DONE].
func noteCyclsFinish(s *Setup, r FinishReason) {
	if r != FinishStop && r != FinishToolCalls {
		s.Ledger.Note("finish_reason")
	}
}

func (c *cyclsEncoder) start(dst []byte, e *Event) []byte {
	b := e.Block
	c.block, c.ran, c.begun, c.gather = b.Type, b.Ran, false, false
	c.newMsg, c.newPart, c.sent = e.Msg, e.Part, 0
	c.pre, c.post, c.buf = c.pre[:0], c.post[:0], c.buf[:0]
	c.isError, c.custom = b.IsError, b.Custom
	switch b.Type {
	case BlockReasoning:
		c.pre = append(c.pre, `data: {"type": "thinking", "thinking": "`...)
		c.post = append(c.post, cyclsPost...)
	case BlockCode:
		c.pre = append(c.pre, `data: {"type": "code", "code": "`...)
		c.post = append(c.post, '"')
		c.post = appendCyclsMember(c.post, "language", b.Language)
		c.post = append(c.post, "}\n\n"...)
	case BlockTable:
		c.headers = append(c.headers[:0], b.Headers...)
		c.noHead = true
		if b.Headers != "" {
			return c.tableHead(dst)
		}
	case BlockCallout:
		// The client joins callouts, and the vendor's documents call them
		// single: the whole text in one event.
		c.gather = true
		c.pre = append(c.pre, `data: {"type": "callout", "callout": "`...)
		c.post = append(c.post, '"')
		c.post = appendCyclsMember(c.post, "style", firstOf(b.Style, "info"))
		c.post = appendCyclsMember(c.post, "title", b.Title)
		c.post = append(c.post, "}\n\n"...)
	case BlockImage:
		return c.image(dst, b)
	case BlockStatus:
		// Some clients show the last event, others join them.
		c.gather = true
		c.pre = append(c.pre, `data: {"type": "status", "status": "`...)
		c.post = append(c.post, cyclsPost...)
	case BlockStep:
		c.gather = true
		c.pre = appendCyclsMember(c.pre, "step", b.Name)
	case BlockToolCall:
		if b.Ran {
			dst = append(dst, `data: {"type": "step", "step": `...)
			dst = jsonx.AppendStringS(dst, firstOf(b.Title, b.Name))
			dst = appendCyclsMember(dst, "id", b.CallID)
			dst = appendCyclsMember(dst, "tool_name", b.Name)
			c.pre = append(c.pre, `data: {"type": "step_arg"`...)
			c.pre = appendCyclsMember(c.pre, "id", b.CallID)
			c.pre = append(c.pre, `, "delta": "`...)
			c.post = append(c.post, cyclsPost...)
			c.wrote(BlockStep)
			return append(dst, "}\n\n"...)
		}
		c.gather = true
		c.pre = append(c.pre, `data: {"type": "tool_call", "tool": `...)
		c.pre = jsonx.AppendStringS(c.pre, b.Name)
		c.pre = append(c.pre, `, "args": `...)
		c.post = appendCyclsMember(c.post, "id", b.CallID)
		c.post = append(c.post, "}\n\n"...)
	case BlockToolResult:
		c.gather = true
		c.pre = append(c.pre, `data: {"type": "step"`...)
		c.pre = appendCyclsMember(c.pre, "id", b.CallID)
		for i := range b.Parts {
			c.buf = append(c.buf, b.Parts[i].Text...)
		}
	case BlockData:
		c.gather = true
		c.pre = append(c.pre, b.Name...)
	default:
		c.pre = append(c.pre, `data: {"type": "text", "text": "`...)
		c.post = append(c.post, cyclsPost...)
	}
	return dst
}

// cyclsPost ends an event whose last member is a text.
const cyclsPost = "\"}\n\n"

// appendCyclsMember appends a member with the comma before it, unless it is
// empty.
func appendCyclsMember(dst []byte, key, value string) []byte {
	if value == "" {
		return dst
	}
	dst = append(dst, `, "`...)
	dst = append(dst, key...)
	dst = append(dst, `": `...)
	return jsonx.AppendStringS(dst, value)
}

// wrote notes which component went out last.
func (c *cyclsEncoder) wrote(t BlockType) { c.last, c.any, c.begun = t, true, true }

// apart puts the separator before a component that would be merged with the
// one before it.
func (c *cyclsEncoder) apart(dst []byte, t BlockType) []byte {
	if c.any && c.last == t {
		dst = append(dst, cyclsSeparator...)
	}
	c.wrote(t)
	return dst
}

func (c *cyclsEncoder) delta(dst []byte, e *Event) []byte {
	data := e.Data
	if c.block == BlockTable {
		return c.row(dst, data)
	}
	if e.Replace {
		if c.gather {
			c.buf = c.buf[:0]
		} else {
			// What was sent cannot be taken back; a snapshot continues it.
			if len(data) < c.sent {
				c.s.Ledger.Note("replace")
				return dst
			}
			data = data[c.sent:]
		}
	}
	if len(e.Logprobs) > 2 && !c.logp { // more than []
		c.logp = true
		c.s.Ledger.Note("logprobs")
	}
	if c.gather {
		c.buf = append(c.buf, data...)
		return dst
	}
	if len(data) == 0 {
		return dst
	}
	c.sent += len(data)
	first := !c.begun
	gap := false
	if first {
		gap = c.gap()
		switch c.block {
		case BlockText, BlockReasoning:
			c.wrote(c.block)
			c.msg, c.part = c.newMsg, c.newPart
		case BlockCode:
			dst = c.apart(dst, c.block)
		default:
			c.wrote(BlockText)
		}
	}
	dst = append(dst, c.pre...)
	if gap {
		dst = append(dst, `\n\n`...)
	}
	dst = jsonx.AppendEscaped(dst, data)
	dst = append(dst, c.post...)
	if first && c.block == BlockCode { // the language stands in the first event
		c.post = append(c.post[:0], cyclsPost...)
	}
	return dst
}

// gap reports that a blank line must keep the text or reasoning that begins
// from the one before it, with which the client merges it: it is of another
// message or, for reasoning, of another part.
func (c *cyclsEncoder) gap() bool {
	if !c.any || c.last != c.block {
		return false
	}
	switch c.block {
	case BlockText:
		return c.msg != c.newMsg
	case BlockReasoning:
		return c.msg != c.newMsg || c.part != c.newPart
	}
	return false
}

func (c *cyclsEncoder) tableHead(dst []byte) []byte {
	c.noHead = false
	dst = c.apart(dst, BlockTable)
	dst = append(dst, `data: {"type": "table", "headers": `...)
	dst = appendCyclsRaw(dst, c.headers)
	return append(dst, "}\n\n"...)
}

// blankHeaders are headers for a table that has none: as many as row has cells.
func blankHeaders(row string) string {
	dst := []byte{'['}
	gjson.Parse(row).ForEach(func(_, _ gjson.Result) bool {
		if len(dst) > 1 {
			dst = append(dst, ',')
		}
		dst = append(dst, '"', '"')
		return true
	})
	return viewString(append(dst, ']'))
}

// row writes one row: the client knows rows only one an event, after headers.
func (c *cyclsEncoder) row(dst, row []byte) []byte {
	if c.noHead {
		c.headers = append(c.headers[:0], blankHeaders(viewString(row))...)
		dst = c.tableHead(dst)
	}
	dst = append(dst, `data: {"type": "table", "row": `...)
	dst = appendCyclsRaw(dst, row)
	return append(dst, "}\n\n"...)
}

// appendCyclsRaw appends JSON that must not end the line it stands on.
func appendCyclsRaw(dst, raw []byte) []byte {
	if bytes.IndexByte(raw, '\n') >= 0 || bytes.IndexByte(raw, '\r') >= 0 {
		return jsonx.AppendCompact(dst, raw)
	}
	return append(dst, raw...)
}

func (c *cyclsEncoder) image(dst []byte, b *Block) []byte {
	src := cyclsAddress(b)
	if src == "" {
		c.s.Ledger.Note("image")
		return dst
	}
	dst = c.apart(dst, BlockImage)
	dst = append(dst, `data: {"type": "image", "src": `...)
	dst = jsonx.AppendStringS(dst, src)
	dst = appendCyclsMember(dst, "alt", b.Alt)
	dst = appendCyclsMember(dst, "caption", b.Caption)
	return append(dst, "}\n\n"...)
}

// cyclsAddress is where an image or a file is: its URL, or the bytes as one;
// "" if it is known to its owner by an id only.
func cyclsAddress(b *Block) string {
	if b.URL == "" && b.Data != "" {
		mime := b.MIME
		if mime == "" {
			mime = "application/octet-stream"
		}
		return "data:" + mime + ";base64," + b.Data
	}
	return b.URL
}

func (c *cyclsEncoder) end(dst []byte, status EndStatus) []byte {
	if !c.gather {
		return dst
	}
	c.gather = false
	switch c.block {
	case BlockStatus:
		if len(c.buf) == 0 {
			return dst
		}
		fallthrough
	case BlockCallout:
		dst = c.apart(dst, c.block)
		dst = append(dst, c.pre...)
		dst = jsonx.AppendEscaped(dst, c.buf)
		dst = append(dst, c.post...)
	case BlockStep:
		// Steps without an id are an entry each; the client merges by id only.
		dst = append(dst, `data: {"type": "step"`...)
		if len(c.pre) == 0 {
			c.pre = appendCyclsMember(c.pre, "step", viewString(c.buf))
			c.buf = c.buf[:0]
		}
		dst = append(dst, c.pre...)
		dst = appendCyclsMember(dst, "data", viewString(c.buf))
		dst = append(dst, "}\n\n"...)
		c.wrote(BlockStep)
	case BlockToolCall:
		if status != StatusComplete {
			// Half a call is not the client's to run.
			c.s.Ledger.Note("tool_calls")
			return dst
		}
		dst = c.apart(dst, BlockToolCall)
		dst = append(dst, c.pre...)
		dst = appendCyclsArgs(dst, c.buf, c.custom)
		dst = append(dst, c.post...)
	case BlockToolResult:
		dst = append(dst, c.pre...)
		dst = append(dst, `, "ok": `...)
		dst = appendBool(dst, !c.isError && status == StatusComplete)
		dst = append(dst, `, "result": `...)
		dst = jsonx.AppendString(dst, c.buf)
		dst = append(dst, "}\n\n"...)
		c.wrote(BlockStep)
	case BlockData:
		at := len(dst)
		dst = append(dst, "data: "...)
		dst = appendCyclsData(dst, viewString(c.pre), viewString(c.buf), ", ", ": ")
		typ, text := cyclsOwnText(dst[at+len("data: "):])
		merged := c.any && c.last == BlockData && string(c.data) == typ && !text
		c.data = append(c.data[:0], typ...) // typ is a view of dst
		if merged {
			dst = append(dst, cyclsSeparator...)
			copy(dst[at+len(cyclsSeparator):], dst[at:])
			copy(dst[at:], cyclsSeparator)
		}
		dst = append(dst, "\n\n"...)
		c.wrote(BlockData)
	}
	return dst
}

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, "true"...)
	}
	return append(dst, "false"...)
}

// appendCyclsArgs writes the arguments of a call as JSON: the input of a custom
// tool, or what a model wrote that is not JSON, as a string.
func appendCyclsArgs(dst, args []byte, custom bool) []byte {
	switch {
	case custom:
		return jsonx.AppendString(dst, args)
	case len(bytes.TrimSpace(args)) == 0:
		return append(dst, "{}"...)
	case !jsonx.Valid(args):
		return jsonx.AppendString(dst, args)
	}
	return appendCyclsRaw(dst, bytes.TrimSpace(args))
}

// appendCyclsData writes a data block: the component that it was, or one made
// of its name and JSON.
func appendCyclsData(dst []byte, name, data, comma, colon string) []byte {
	raw := bytes.TrimSpace(viewBytes(data))
	valid := jsonx.Valid(raw)
	if valid && raw[0] == '{' && cyclsTyped(raw) {
		return appendCyclsRaw(dst, raw)
	}
	dst = append(append(append(dst, `{"type"`...), colon...), `"data"`...)
	if name != "" {
		dst = append(append(append(dst, comma...), `"name"`...), colon...)
		dst = jsonx.AppendStringS(dst, name)
	}
	dst = append(append(append(dst, comma...), `"data"`...), colon...)
	if valid {
		dst = appendCyclsRaw(dst, raw)
	} else {
		dst = jsonx.AppendString(dst, raw)
	}
	return append(dst, '}')
}

// cyclsOwnText is a component's type, and whether the member called like it is a
// text: of such the client appends the next one to the last, as the agent knew,
// of others it made nonsense up to .146, or lost the second.
func cyclsOwnText(component []byte) (typ string, text bool) {
	doc := gjson.Parse(viewString(component))
	typ = doc.Get("type").Str
	doc.ForEach(func(k, v gjson.Result) bool {
		text = text || k.Str == typ && v.Type == gjson.String
		return !text
	})
	return typ, text
}

func (c *cyclsEncoder) fail(dst []byte, err *Error) []byte {
	if c.gather && (c.block == BlockCallout || c.block == BlockStatus) && len(c.buf) > 0 {
		dst = c.end(dst, StatusFailed) // what the agent said before it failed
	}
	c.gather = false
	dst = c.apart(dst, BlockCallout)
	return appendCyclsFailure(dst, err, c.s.Seed)
}

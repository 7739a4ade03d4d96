package translate

import (
	"bytes"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/sse"
)

// cyclsEra is what an agent's version of the server streams.
type cyclsEra uint8

const (
	eraAuto  cyclsEra = iota // not known yet
	eraTyped                 // {"type": T, T: …}: .65 and newer
	eraArray                 // ["+", name, {…}], ["~", {…}], ["-"], ["=", {…}]: .64
	eraText                  // text without events: .30 to .63, and POST / up to .115
	eraChat                  // {"choices": [{"delta": {"content": …}}]}: /chat/completions
)

func cyclsEraOf(a *Agent) cyclsEra {
	if a != nil {
		switch a.Option("era", "auto") {
		case "typed":
			return eraTyped
		case "array":
			return eraArray
		case "text":
			return eraText
		case "chat":
			return eraChat
		}
	}
	return eraAuto
}

// cyclsMaxBlank is how many line ends may stand before the first word of an
// answer without settling what it is.
const cyclsMaxBlank = 1 << 10

// Framed implements Detector. All eras say text/event-stream; the oldest did not
// mean it. An answer without a byte is taken for an event stream that was cut.
func (d *cyclsDecoder) Framed(head []byte, end bool) (isFramed, known bool) {
	switch d.era {
	case eraAuto:
	case eraText:
		return false, true
	default:
		return true, true
	}
	const bom = "\xef\xbb\xbf"
	if len(head) < len(bom) && bom[:len(head)] == string(head) && !end {
		return false, false
	}
	b := bytes.TrimLeft(bytes.TrimPrefix(head, []byte(bom)), "\r\n")
	if len(b) == 0 {
		if len(head) < cyclsMaxBlank {
			return true, end
		}
		d.era = eraText
		return false, true
	}
	isFramed, known = cyclsFramed(b, end)
	if known && !isFramed {
		d.era = eraText
	}
	return isFramed, known
}

// cyclsMaxLine is how much of a stream is looked at for an event.
const cyclsMaxLine = 64 << 10

// cyclsFramed reports whether what an answer begins with is an event: data that
// is JSON or [DONE] to the end of its line. Words that only begin like one are
// an agent's. Comments, and other fields before the data, come from something
// between us and the agent.
func cyclsFramed(b []byte, end bool) (isFramed, known bool) {
	end = end || len(b) >= cyclsMaxLine
	if b[0] == ':' {
		if len(b) == 1 {
			return false, end
		}
		return b[1] == ' ' || b[1] == '\n' || b[1] == '\r', true
	}
	for {
		line, n := b, bytes.IndexAny(b, "\r\n")
		if n >= 0 {
			line = b[:n]
		}
		if data, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			return cyclsFramedData(bytes.TrimLeft(data, " "), n >= 0, end)
		}
		field := false
		for _, name := range [...]string{"data:", "event:", "id:", "retry:"} {
			if n < 0 && len(line) < len(name) && name[:len(line)] == string(line) {
				return false, end
			}
			field = field || bytes.HasPrefix(line, []byte(name))
		}
		switch {
		case !field:
			return false, true
		case n < 0:
			return false, end
		}
		b = bytes.TrimLeft(b[n:], "\r\n")
	}
}

// cyclsFramedData is cyclsFramed for the data of the first event. A line that
// breaks off is an event's as long as it can still become one.
func cyclsFramedData(data []byte, isWhole, end bool) (isFramed, known bool) {
	switch {
	case len(data) > 0 && data[0] != '{' && data[0] != '[':
		return false, true
	case !isWhole && !end:
		return false, false
	case bytes.HasPrefix([]byte("[DONE]"), data) && !isWhole, string(bytes.TrimRight(data, " ")) == "[DONE]":
		return true, true
	}
	if numbers := cyclsWithoutNaN(data); numbers != nil {
		data = numbers
	}
	if isWhole {
		return jsonx.Valid(data), true
	}
	var s jsonx.Scanner
	s.Write(data)
	return !s.Broken(), true
}

// Native implements Detector: clients know typed components.
func (d *cyclsDecoder) Native(f *sse.Frame) (native, known bool) {
	if d.era == eraAuto {
		if len(f.Data) == 0 {
			return false, false
		}
		d.era = d.sniff(f.Data)
	}
	return d.era == eraTyped, true
}

// sniff tells the era by the first event.
func (d *cyclsDecoder) sniff(data []byte) cyclsEra {
	switch b := bytes.TrimLeft(data, " \t"); {
	case bytes.HasPrefix(b, []byte("[DONE]")): // an empty answer
	case len(b) > 0 && b[0] == '[':
		return eraArray
	case d.isChunk(b):
		return eraChat
	}
	return eraTyped
}

// isChunk reports whether an event is a chunk of /chat/completions: an agent's
// own component may have choices too, but it has a type or other choices.
func (d *cyclsDecoder) isChunk(data []byte) bool {
	dec := &d.dec
	dec.Reset(data)
	if dec.Kind() != jsonx.Object {
		return false
	}
	dec.Object()
	for k, ok := dec.Key(); ok; k, ok = dec.Key() {
		switch string(k) {
		case "type":
			return false
		case "choices":
			if dec.Kind() != jsonx.Array || !dec.Array() || !dec.More() || dec.Kind() != jsonx.Object {
				return false
			}
			dec.Object()
			for k, ok := dec.Key(); ok; k, ok = dec.Key() {
				if string(k) == "delta" {
					return true
				}
			}
			return false
		}
	}
	return false
}

// Text implements Detector. A code point that has come in part waits for its
// rest.
func (d *cyclsDecoder) Text(p []byte, out Sink) {
	if d.ended {
		return
	}
	d.borrow()
	defer d.giveBack()
	d.start(out, "")
	if len(d.tail) > 0 {
		d.tail = append(d.tail, p...)
		p = d.tail
	}
	whole := len(p)
	for i := len(p) - 1; i >= 0 && i > len(p)-utf8.UTFMax; i-- {
		if utf8.RuneStart(p[i]) {
			if !utf8.FullRune(p[i:]) {
				whole = i
			}
			break
		}
	}
	d.sayBytes(out, p[:whole])
	d.tail = append(d.tail[:0], p[whole:]...)
}

// sayBytes says bytes that should be text. Each that is not is a U+FFFD of its
// own, so that it makes no difference how they came.
func (d *cyclsDecoder) sayBytes(out Sink, p []byte) {
	if !utf8.Valid(p) {
		d.text = d.text[:0]
		for len(p) > 0 {
			r, n := utf8.DecodeRune(p)
			d.text = utf8.AppendRune(d.text, r)
			p = p[n:]
		}
		p = d.text
	}
	d.say(out, BlockText, p, halves{})
}

// endText ends text without events: the clean end of the body is all there is.
func (d *cyclsDecoder) endText(out Sink) {
	d.start(out, "")
	d.sayBytes(out, d.tail)
	d.tail = d.tail[:0]
	d.finish(out)
}

// The beginning and the end of nearly all chunks.
var (
	cyclsChunkHead = []byte(`{"choices": [{"delta": {"content": "`)
	cyclsChunkTail = []byte(`"}}]}`)
)

// plainChunk is plain for chunks.
func (d *cyclsDecoder) plainChunk(data []byte, out Sink) bool {
	if !d.started || d.held.held || len(data) < len(cyclsChunkHead)+len(cyclsChunkTail) ||
		!bytes.HasPrefix(data, cyclsChunkHead) || !bytes.HasSuffix(data, cyclsChunkTail) {
		return false
	}
	raw := data[len(cyclsChunkHead) : len(data)-len(cyclsChunkTail)]
	text, ok := jsonx.Unquote(d.text[:0], data[len(cyclsChunkHead)-1:len(data)-len(cyclsChunkTail)+1])
	if !ok || cyclsChunkError(text) {
		return false
	}
	d.text = text
	d.piece(out, BlockText, text, raw)
	return true
}

// chunk decodes a chunk of /chat/completions: a constant shell (from .30 to .63
// with an id, a date and a model that are constants too, and mean nothing)
// around what the agent yielded: a string, a component, or any other JSON.
func (d *cyclsDecoder) chunk(data []byte, out Sink) error {
	dec := &d.dec
	dec.Reset(data)
	if dec.Kind() != jsonx.Object {
		return errCyclsChunk
	}
	var content []byte
	kind, choices, typed, failed := jsonx.Null, false, false, false
	dec.Object()
	for k, ok := dec.Key(); ok; k, ok = dec.Key() {
		switch string(k) {
		case "type":
			typed = true
		case "error":
			failed = true
		case "choices":
			choices = true
			if !dec.Array() || !dec.More() {
				continue
			}
			if dec.Object() {
				for k, ok := dec.Key(); ok; k, ok = dec.Key() {
					if string(k) != "delta" || !dec.Object() {
						continue
					}
					for k, ok := dec.Key(); ok; k, ok = dec.Key() {
						if string(k) == "content" {
							kind = dec.Kind()
							content = dec.Raw()
						}
					}
				}
			}
			for dec.More() { // the server writes one
				dec.Skip()
			}
		}
	}
	if err := dec.End(); err != nil {
		return errCyclsJSON
	}
	switch {
	case choices:
	case typed: // .89 and .90 tell a failure before the first word so
		return d.typed(data, out)
	case failed: // of something between us and the agent
		e := gjson.Get(viewString(data), "error")
		d.start(out, "")
		d.fail(InBand(0, "", firstOf(e.Get("message").String(), e.String())), out)
		return nil
	default:
		return errCyclsChunk
	}
	d.start(out, "")
	if kind == jsonx.Object {
		return d.typed(content, out)
	}
	if d.held.held && kind != jsonx.Null {
		d.release(out)
	}
	switch kind {
	case jsonx.Null:
	case jsonx.String:
		text, _ := jsonx.Unquote(d.text[:0], content)
		d.text = text
		if cyclsChunkError(text) {
			d.hold(BlockText, text, nil, nil)
			return nil
		}
		d.piece(out, BlockText, text, content[1:len(content)-1])
	default: // from .141 on an item may be a number or a list
		d.say(out, BlockText, cyclsValid(content), halves{})
	}
	return nil
}

// operation decodes an event of the array protocol. "+" opens a component, "~"
// continues it, "-" ends it, "=" is one that is whole.
func (d *cyclsDecoder) operation(data []byte, out Sink) error {
	dec := &d.dec
	dec.Reset(data)
	if dec.Kind() != jsonx.Array {
		return errCyclsOp
	}
	var op byte
	var name, props []byte
	dec.Array()
	for n := 0; dec.More(); n++ {
		switch kind := dec.Kind(); {
		case n == 0 && kind == jsonx.String:
			if s, _ := dec.Str(); len(s) == 1 {
				op = s[0]
			}
		case kind == jsonx.String && op == '+' && n == 1:
			name, _ = dec.Str()
		case kind == jsonx.Object && props == nil:
			props = dec.Raw()
		default:
			dec.Skip()
		}
	}
	if err := dec.End(); err != nil {
		return errCyclsJSON
	}
	switch {
	case op == '-':
		d.start(out, "")
		d.close(out)
		d.named = d.named[:0]
		return nil
	case props == nil || op != '+' && op != '~' && op != '=':
		return errCyclsOp
	}
	d.start(out, "")
	if op != '~' {
		d.close(out)
		d.named = append(d.named[:0], name...) // name is gone with the next Reset
	}
	if err := d.read(props); err != nil {
		return err
	}
	name = d.named
	if op == '=' {
		name = d.str(cyName)
	}
	if len(name) == 0 { // a dict of the agent's own
		return d.typed(props, out)
	}
	if !cyclsIsComponent(name) {
		if op != '=' { // the name stands outside
			d.text = append(d.text[:0], `{"name": `...)
			d.text = jsonx.AppendString(d.text, name)
			if rest := bytes.TrimSpace(props[1:]); len(rest) > 1 {
				d.text = append(d.text, ", "...)
			}
			props = append(d.text, props[1:]...)
			d.text = props
		}
		d.data(out, name, props)
		return nil
	}
	d.unname(name)
	if op != '=' && d.has(cyStatus) && string(name) == "status" { // these grow, other than later ones
		if !d.open || d.openType != BlockStatus {
			d.block = Block{Type: BlockStatus}
			d.keep(d.begin(out), BlockStatus)
		}
		d.grow(out, d.value(cyStatus), d.cut(cyStatus))
		return nil
	}
	d.dispatch(name, props, out)
	return nil
}

// cyclsIsComponent reports whether name is a component that the array era's
// helpers made.
func cyclsIsComponent(name []byte) bool {
	switch string(name) {
	case "text", "thinking", "status", "code", "table", "callout", "image":
		return true
	}
	return false
}

// cyclsIsNamed reports whether a component is in the array era's own form,
// {"name": …, "content": …}, as its /chat/completions and its messages have it:
// it has no type, or is a callout, whose style that was.
func cyclsIsNamed(typ, name []byte) bool {
	return cyclsIsComponent(name) && (len(typ) == 0 || string(name) == "callout" && !cyclsIsComponent(typ))
}

// unname makes of a component in the array era's form the same in today's: its
// content is the member called like the component, and a callout's type is its
// style.
func (d *cyclsDecoder) unname(name []byte) {
	if d.has(cyContent) {
		own := cyclsFieldOf(name)
		d.fields[own] = d.fields[cyContent]
		d.have |= 1 << own
	}
	if string(name) == "callout" && d.has(cyType) {
		d.fields[cyStyle] = d.fields[cyType]
		d.have |= 1 << cyStyle
	}
}

// The server's own words for a failure, where it has no callout.
var (
	cyclsErrorHead = []byte("⚠️ Error\n```\n")
	cyclsErrorTail = []byte("```")
	cyclsChunkFail = []byte("\n\n[stream failed: ")
)

// cyclsThinkingError reports whether a thought is how .89 and .90 told an agent's
// exception.
func cyclsThinkingError(text []byte) bool {
	return len(text) >= len(cyclsErrorHead)+len(cyclsErrorTail) && text[0] == cyclsErrorHead[0] &&
		bytes.HasPrefix(text, cyclsErrorHead) && bytes.HasSuffix(text, cyclsErrorTail)
}

// cyclsChunkError reports whether a text is how /chat/completions tells an
// agent's exception from .127 on.
func cyclsChunkError(text []byte) bool {
	return len(text) > len(cyclsChunkFail) && text[0] == '\n' && text[len(text)-1] == ']' && bytes.HasPrefix(text, cyclsChunkFail)
}

// cyclsErrorText is what a server's error says, without what it is wrapped in.
func cyclsErrorText(text []byte) []byte {
	switch {
	case cyclsThinkingError(text):
		return text[len(cyclsErrorHead) : len(text)-len(cyclsErrorTail)]
	case cyclsChunkError(text):
		return text[3 : len(text)-1]
	}
	return text
}

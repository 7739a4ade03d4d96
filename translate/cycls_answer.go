package translate

import (
	"strings"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// cyclsTyped reports whether a JSON object has a type, as components do.
func cyclsTyped(raw []byte) bool { return gjson.Get(viewString(raw), "type").Str != "" }

// AppendAnswer implements Face. The server itself only streams; this is the
// form in which its web client stores an answer and sends it back in the
// history: {"role":"assistant","parts":[…]}, with texts merged, tables as
// headers and rows, and a step with its arguments and result.
func (cyclsCodec) AppendAnswer(dst []byte, s *Setup, f *Fold) []byte {
	noteCyclsFinish(s, f.Reason)
	dst = append(dst, `{"role":"assistant","parts":[`...)
	w := cyclsParts{dst: dst, s: s, results: map[string]*Block{}, written: map[*Block]bool{}}
	f.Each(func(_ *FoldMessage, b FoldBlock) {
		switch b.Type {
		case BlockToolResult:
			if w.results[b.CallID] == nil {
				w.results[b.CallID] = b.Block
			}
		case BlockText:
			if len(b.Annotations) > 0 {
				s.Ledger.Note("annotations")
			}
		}
		if len(b.Logprobs) > 2 { // more than []
			s.Ledger.Note("logprobs")
		}
	})
	f.Each(func(m *FoldMessage, b FoldBlock) { w.block(m, b) })
	w.closeText()
	return append(w.dst, "]}"...)
}

// cyclsParts writes parts in the stored form.
type cyclsParts struct {
	dst     []byte
	s       *Setup
	results map[string]*Block // the first one of each call
	written map[*Block]bool   // results that stand in their call's part
	any     bool

	open bool // a text or thinking part, of
	typ  BlockType
	msg  int
	part int
}

func (w *cyclsParts) begin(typ string) {
	w.closeText()
	if w.any {
		w.dst = append(w.dst, ',')
	}
	w.any = true
	w.dst = append(append(append(w.dst, `{"type":"`...), typ...), '"')
}

func (w *cyclsParts) closeText() {
	if w.open {
		w.open = false
		w.dst = append(w.dst, `"}`...)
	}
}

// member writes a member unless it is empty.
func (w *cyclsParts) member(key, value string) {
	if value != "" {
		w.text(key, value)
	}
}

func (w *cyclsParts) text(key, value string) {
	w.raw(key, "")
	w.dst = jsonx.AppendStringS(w.dst, value)
}

func (w *cyclsParts) raw(key, value string) {
	w.dst = append(append(append(w.dst, `,"`...), key...), `":`...)
	w.dst = append(w.dst, value...)
}

func (w *cyclsParts) block(m *FoldMessage, b FoldBlock) {
	switch b.Type {
	case BlockReasoning:
		w.words("thinking", m, b)
		return
	case BlockCode:
		w.begin("code")
		w.text("code", b.Text)
		w.member("language", b.Language)
	case BlockTable:
		headers := b.Headers
		if headers == "" {
			headers = "[]"
			if len(b.Rows) > 0 {
				headers = blankHeaders(b.Rows[0])
			}
		}
		w.begin("table")
		w.raw("headers", headers)
		w.raw("rows", "[")
		for i, row := range b.Rows {
			if i > 0 {
				w.dst = append(w.dst, ',')
			}
			w.dst = append(w.dst, row...)
		}
		w.dst = append(w.dst, ']')
	case BlockCallout:
		w.begin("callout")
		w.text("callout", b.Text)
		w.text("style", firstOf(b.Style, "info"))
		w.member("title", b.Title)
	case BlockImage:
		src := cyclsAddress(b.Block)
		if src == "" {
			w.s.Ledger.Note("image")
			return
		}
		w.begin("image")
		w.text("src", src)
		w.member("alt", b.Alt)
		w.member("caption", b.Caption)
	case BlockStatus:
		w.begin("status")
		w.text("status", b.Text)
	case BlockStep:
		w.begin("step")
		if b.Name == "" {
			w.text("step", b.Text)
			break
		}
		w.text("step", b.Name)
		w.member("data", b.Text)
	case BlockToolCall:
		if b.Ran {
			w.begin("step")
			w.text("step", firstOf(b.Title, b.Name))
			w.member("id", b.CallID)
			w.member("tool_name", b.Name)
			w.member("args", b.Text)
			if r := w.results[b.CallID]; r != nil && !w.written[r] {
				w.written[r] = true
				w.result(r)
			}
			break
		}
		if b.Status != StatusComplete {
			w.s.Ledger.Note("tool_calls")
			return
		}
		w.begin("tool_call")
		w.text("tool", b.Name)
		w.raw("args", "")
		w.dst = appendCyclsArgs(w.dst, viewBytes(b.Text), b.Custom)
		w.member("id", b.CallID)
	case BlockToolResult:
		if w.written[b.Block] {
			return
		}
		w.begin("step")
		w.member("id", b.CallID)
		w.result(b.Block)
	case BlockData:
		w.closeText()
		if w.any {
			w.dst = append(w.dst, ',')
		}
		w.any = true
		w.dst = appendCyclsData(w.dst, b.Name, b.Text, ",", ":")
		return
	default:
		w.words("text", m, b)
		return
	}
	w.dst = append(w.dst, '}')
}

// words writes text or thinking into the part that is open or into a new one.
// Messages, and parts of reasoning, are a blank line apart.
func (w *cyclsParts) words(key string, m *FoldMessage, b FoldBlock) {
	if b.Text == "" {
		return
	}
	typ := BlockText
	if b.Type == BlockReasoning {
		typ = BlockReasoning
	}
	if w.open && w.typ == typ {
		if w.msg != m.Msg || typ == BlockReasoning && w.part != b.Part {
			w.dst = append(w.dst, `\n\n`...)
		}
	} else {
		w.begin(key)
		w.dst = append(append(append(w.dst, `,"`...), key...), `":"`...)
	}
	w.open, w.typ, w.msg, w.part = true, typ, m.Msg, b.Part
	w.dst = jsonx.AppendEscaped(w.dst, viewBytes(b.Text))
}

func (w *cyclsParts) result(r *Block) {
	ok := "true"
	if r.IsError || r.Status != StatusComplete {
		ok = "false"
	}
	w.raw("ok", ok)
	var text strings.Builder
	text.WriteString(r.Text)
	for i := range r.Parts {
		text.WriteString(r.Parts[i].Text)
	}
	w.text("result", text.String())
}

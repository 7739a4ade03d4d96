package translate

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// cyclsClient is the vendor's web client, as far as it makes the parts of a
// message of a stream: to the letter that of .140, or that of .149. Arrays, numbers
// and objects are added to text as JavaScript does it, near enough to be seen.
func cyclsClient(t *testing.T, stream string, newer bool) []map[string]any {
	t.Helper()
	var parts []map[string]any
	var current map[string]any
	truthy := func(v any) bool { return v != nil && v != "" && v != false && v != 0.0 }
	lines := strings.Split(stream, "\n")
	for _, line := range lines[:len(lines)-1] { // what has no line end is never looked at
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok || data == "[DONE]" {
			continue
		}
		var item map[string]any
		if json.Unmarshal([]byte(data), &item) != nil {
			t.Errorf("the client swallows %s", line)
			continue
		}
		typ, _ := item["type"].(string)
		byID := func(p map[string]any) bool { return p["type"] == "step" && p["id"] == item["id"] }
		push := func() {
			current = maps.Clone(item)
			if truthy(item["headers"]) {
				current["rows"] = []any{}
			}
			parts = append(parts, current)
		}
		same := current != nil && current["type"] == typ
		switch {
		case typ == "chat_id" && truthy(item["chat_id"]), typ == "ui" && truthy(item["action"]):
		case typ == "step_arg" && truthy(item["id"]):
			if i := slices.IndexFunc(parts, byID); i >= 0 {
				was, _ := parts[i]["args"].(string)
				delta, _ := item["delta"].(string)
				parts[i]["args"] = was + delta
			}
		case typ == "step" && truthy(item["id"]):
			if i := slices.IndexFunc(parts, byID); i >= 0 {
				maps.Copy(parts[i], item)
				current = parts[i]
			} else {
				current = maps.Clone(item)
				parts = append(parts, current)
			}
		case same && truthy(item["row"]) && current["rows"] != nil:
			current["rows"] = append(current["rows"].([]any), item["row"])
		case newer:
			if text, isText := item[typ].(string); same && typ != "step" && isText {
				was, _ := current[typ].(string)
				current[typ] = was + text
			} else {
				push()
			}
		case same:
			if value, has := item[typ]; !has {
				// dropped
			} else if typ == "step" {
				current = maps.Clone(item)
				parts = append(parts, current)
			} else if was, isText := current[typ].(string); isText || current[typ] == nil {
				current[typ] = was + fmt.Sprint(value)
			} else {
				current[typ] = fmt.Sprint(current[typ]) + fmt.Sprint(value)
			}
		default:
			push()
		}
	}
	return slices.DeleteFunc(parts, func(p map[string]any) bool {
		text, _ := p["text"].(string)
		return p["type"] == "text" && strings.TrimSpace(text) == ""
	})
}

// cyclsShown is what a client should show for events: the same parts, made by
// rule from the blocks and not from the stream.
type cyclsShown struct {
	parts []map[string]any
	open  map[int]*cyclsShownBlock
	last  string // what the next words would continue: text or thinking of msg and part
	msg   int
	part  int
	err   *Error
}

type cyclsShownBlock struct {
	Block
	msg, part int
	text      string
	at        map[string]any // the part it is shown in
}

// Event implements Sink.
func (c *cyclsShown) Event(e *Event) {
	switch e.Kind {
	case EventBlockStart:
		b := &cyclsShownBlock{Block: cloneBlock(e.Block), msg: e.Msg, part: e.Part}
		if c.open == nil {
			c.open = map[int]*cyclsShownBlock{}
		}
		c.open[e.Index] = b
		switch b.Type {
		case BlockTable:
			if b.Headers != "" {
				c.table(b, b.Headers)
			}
		case BlockToolCall:
			if b.Ran {
				b.at = c.add("step", map[string]any{"step": firstOf(b.Title, b.Name), "id": b.CallID, "tool_name": b.Name})
			}
		}
	case EventBlockDelta:
		b := c.open[e.Index]
		switch {
		case b.Type == BlockTable:
			if b.at == nil {
				c.table(b, blankHeaders(string(e.Data)))
			}
			b.at["rows"] = append(b.at["rows"].([]any), decoded(e.Data))
		case e.Replace:
			if len(e.Data) >= len(b.text) { // shorter snapshots cannot be told
				c.say(b, string(e.Data[len(b.text):]))
			}
		default:
			c.say(b, string(e.Data))
		}
	case EventBlockEnd:
		c.end(c.open[e.Index], e.Status)
		delete(c.open, e.Index)
	case EventFail:
		c.err = e.Err
	}
}

func decoded(data []byte) (v any) {
	_ = json.Unmarshal(data, &v)
	return v
}

func (c *cyclsShown) add(typ string, p map[string]any) map[string]any {
	p["type"] = typ
	c.parts, c.last = append(c.parts, p), typ
	return p
}

func (c *cyclsShown) table(b *cyclsShownBlock, headers string) {
	b.at = c.add("table", map[string]any{"headers": decoded([]byte(headers)), "rows": []any{}})
}

// say adds to a block's text. Words join the words before them, a blank line
// apart if they are of another message.
func (c *cyclsShown) say(b *cyclsShownBlock, text string) {
	b.text += text
	switch b.Type {
	case BlockText, BlockRefusal, BlockReasoning:
		typ := "text"
		if b.Type == BlockReasoning {
			typ = "thinking"
		}
		if b.at == nil {
			if c.last == typ {
				b.at = c.parts[len(c.parts)-1]
				if c.msg != b.msg || typ == "thinking" && c.part != b.part {
					text = "\n\n" + text
				}
			} else {
				b.at = c.add(typ, map[string]any{})
			}
		}
		c.msg, c.part = b.msg, b.part
		was, _ := b.at[typ].(string)
		b.at[typ] = was + text
	case BlockCode:
		if b.at == nil {
			b.at = c.add("code", map[string]any{})
			set(b.at, "language", b.Language)
		}
		was, _ := b.at["code"].(string)
		b.at["code"] = was + text
	}
}

func set(p map[string]any, key, value string) {
	if value != "" {
		p[key] = value
	}
}

func (c *cyclsShown) end(b *cyclsShownBlock, status EndStatus) {
	switch b.Type {
	case BlockCallout:
		p := c.add("callout", map[string]any{"callout": b.text, "style": firstOf(b.Style, "info")})
		set(p, "title", b.Title)
	case BlockImage:
		if src := cyclsAddress(&b.Block); src != "" {
			p := c.add("image", map[string]any{"src": src})
			set(p, "alt", b.Alt)
			set(p, "caption", b.Caption)
		}
	case BlockStatus:
		if b.text != "" {
			c.add("status", map[string]any{"status": b.text})
		}
	case BlockStep:
		name, text := b.Name, b.text
		if name == "" {
			name, text = text, ""
		}
		p := c.add("step", map[string]any{"step": name})
		set(p, "data", text)
	case BlockToolCall:
		if b.Ran {
			set(b.at, "args", b.text)
		} else if status == StatusComplete {
			args := any(b.text)
			if !b.Custom && (b.text == "" || gjson.Valid(b.text)) {
				args = decoded([]byte(firstOf(b.text, "{}")))
			}
			p := c.add("tool_call", map[string]any{"tool": b.Name, "args": args})
			set(p, "id", b.CallID)
		}
	case BlockToolResult:
		for i := range b.Parts {
			b.text = b.Parts[i].Text + b.text
		}
		result := map[string]any{"type": "step", "ok": !b.IsError && status == StatusComplete, "result": b.text}
		set(result, "id", b.CallID)
		c.last = "step"
		i := slices.IndexFunc(c.parts, func(p map[string]any) bool { return p["type"] == "step" && p["id"] == b.CallID })
		if i < 0 || b.CallID == "" {
			c.parts = append(c.parts, result)
		} else {
			maps.Copy(c.parts[i], result)
		}
	case BlockData:
		v, _ := decoded([]byte(b.text)).(map[string]any)
		typ, _ := v["type"].(string)
		if typ == "" {
			v = map[string]any{"type": "data", "data": decoded([]byte(b.text))}
			if !gjson.Valid(b.text) {
				v["data"] = strings.TrimSpace(b.text)
			}
			set(v, "name", b.Name)
			typ = "data"
		}
		if typ == "ui" && v["action"] != nil {
			return // done, and not shown
		}
		if was, isText := v[typ].(string); isText && c.last == typ { // what the agent meant to be joined
			p := c.parts[len(c.parts)-1]
			p[typ] = fmt.Sprint(p[typ]) + was
			return
		}
		c.add(typ, v)
	}
}

// TestCyclsClientShowsWhatWasSaid gives every answer of every backend to the web
// client, in both its ways of merging: nothing that the events said is lost,
// joined or mixed up.
func TestCyclsClientShowsWhatWasSaid(t *testing.T) {
	t.Parallel()
	face := Lookup("cycls")
	for _, c := range goldenCases(t) {
		if c.status != 200 {
			continue
		}
		t.Run(c.name(), func(t *testing.T) {
			t.Parallel()
			s := goldenSetup(t, face, true)
			a := NewAnswer(s, c.backend, true, c.stream)
			shown := &cyclsShown{}
			if !a.PassedThrough() || c.backend != face {
				s.Encoded.Next = cyclsTee{shown, s.Encoded.Next}
			}
			var out []byte
			if c.stream {
				out = a.End(a.Feed(out, c.body), c.cause)
			} else {
				out = a.Body(out, c.body)
			}
			if a.PassedThrough() {
				return // what the agent said is the agent's
			}
			if len(shown.parts) == 0 && c.backend == face {
				// It left the passing through at the first event: the stages are new.
				s = goldenSetup(t, face, true)
				s.Encoded.Next = shown
				fold := stages(s, face, shown)
				for _, e := range parseEventText(t, strings.ReplaceAll(c.decode(t, nil), "(no end)", "")) {
					fold.Event(e)
				}
			}
			want := shown.parts
			if shown.err != nil {
				want = append(want, map[string]any{"type": "callout", "callout": shown.err.ClientMessage(), "style": "error"})
			}
			want = slices.DeleteFunc(want, func(p map[string]any) bool {
				text, _ := p["text"].(string)
				return p["type"] == "text" && strings.TrimSpace(text) == ""
			})
			for _, newer := range []bool{false, true} {
				got := cyclsClient(t, string(out), newer)
				if shown.err != nil && len(got) > 0 {
					delete(got[len(got)-1], "error_id")
				}
				if len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
					g, _ := json.Marshal(got)
					w, _ := json.Marshal(want)
					t.Errorf("newer %v: the client shows\n%s\nwant\n%s", newer, g, w)
				}
			}
		})
	}
}

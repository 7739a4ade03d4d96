package translate

import (
	"bytes"
	"strconv"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/sse"
)

// Keep is how an answer is kept, for later turns to go on from it. Setup.Keep is nil
// where nothing is kept: then answers say store:false.
type Keep struct {
	// ID is the answer's id in place of one made of the seed.
	ID string
	// Previous is the id that the request goes on from, Conversation that of the
	// conversation object it belongs to; "" where there is none. Answers repeat them.
	Previous, Conversation string
	// Background says that the answer outlives its request. One that failed is kept too.
	Background bool
	// Native says that the backend keeps its answers itself: what passes through stays as
	// it is, its id too.
	Native bool
	// Begin, if set, is told the answer's id before the client is, and reports whether it
	// may be used later.
	Begin func(id string) bool
	// Save is given the answer when it is whole, before its last event or its JSON goes out,
	// and reports whether it was kept.
	Save func(k *Kept) bool
	// Announce is the type of the event that tells a Cycls client the conversation's id, which is
	// ID; "" for none.
	Announce string
	// Handle is the backend's own name for the conversation, as soon as it was told.
	Handle string
}

// Kept is a whole answer. Its bytes are valid until Save returns.
type Kept struct {
	// Status is completed or incomplete; with Background also failed or cancelled.
	Status string
	// Object is the answer as the client gets it, without its output.
	Object []byte
	// Output are the items of the answer in the form of the face's history, with commas
	// between them, and with what only the agent may read (encrypted reasoning), whether the
	// client asked for it or not.
	Output []byte
}

// StateFace is implemented by a Face whose clients leave to the server what was said before.
type StateFace interface {
	// AppendTurn appends what the client said with this request, as items of the face's
	// history with commas between them. id makes ids for items that lack one.
	AppendTurn(dst []byte, r *Request, id func(prefix string, n int) string) []byte
}

// AnswerID is the id of the answer: the one that it is kept under, else the prefix and
// the seed.
func (s *Setup) AnswerID(prefix string) string {
	if s.Keep != nil && s.Keep.ID != "" {
		return s.Keep.ID
	}
	return s.ID(prefix, -1)
}

// Editor is implemented by a Decoder whose answers are edited where they pass through and
// are kept: they get the id that they are kept under.
type Editor interface {
	// AppendEdited appends a frame that has been decoded as the client must get it. ok says that the
	// answer has not failed.
	AppendEdited(dst []byte, f *sse.Frame, ok bool) []byte
	// AppendEditedBody does the same for a whole answer.
	AppendEditedBody(dst, body []byte) []byte
}

// respKindPrefix is what the ids of items of a type begin with.
func respKindPrefix(kind string) string {
	switch kind {
	case "message", "":
		return "msg_"
	case "function_call":
		return "fc_"
	case "function_call_output":
		return "fco_"
	case "custom_tool_call":
		return "ctc_"
	case "custom_tool_call_output":
		return "ctco_"
	case "reasoning":
		return "rs_"
	}
	return "item_"
}

// appendRespTurn is AppendTurn of the faces that speak the items of the Responses API.
func appendRespTurn(dst []byte, r *Request, id func(prefix string, n int) string) []byte {
	input := gjson.Get(viewString(r.Body), "input")
	if input.Type == gjson.String {
		dst = append(dst, `{"id":"`...)
		dst = append(dst, id("msg_", 0)...)
		dst = append(dst, `","type":"message","role":"user","status":"completed","content":[{"type":"input_text","text":`...)
		dst = respAppendJSON(dst, viewBytes(input.Raw))
		return append(dst, "}]}"...)
	}
	n := 0
	input.ForEach(func(_, item gjson.Result) bool {
		raw := item.Raw
		if respRefers(item, item.Get("type")) {
			raw = r.Items[respText(item.Get("id"))]
		}
		if raw == "" { // of a backend that keeps it itself
			return true
		}
		if n > 0 {
			dst = append(dst, ',')
		}
		dst = appendRespKept(dst, raw, func(prefix string) string { return id(prefix, n) })
		n++
		return true
	})
	return dst
}

// appendRespKept appends an item as it is kept and listed: with a type and an id.
func appendRespKept(dst []byte, raw string, id func(prefix string) string) []byte {
	item := gjson.Parse(raw)
	if !item.IsObject() { // a backend's to judge
		return respAppendJSON(dst, viewBytes(raw))
	}
	kind := respText(item.Get("type"))
	s := newSplice(viewBytes(raw))
	if item.Get("id").Type != gjson.String {
		s.set("id", quote(id(respKindPrefix(kind))))
	}
	if kind == "" {
		s.set("type", `"message"`)
	}
	if content := item.Get("content"); content.Type == gjson.String && (kind == "" || kind == "message") {
		part := "input_text"
		if respText(item.Get("role")) == "assistant" {
			part = "output_text"
		}
		with := `[{"type":"` + part + `","text":` + content.Raw
		if part == "output_text" {
			with += `,"annotations":[]`
		}
		s.set("content", with+"}]")
	}
	return respAppendJSON(dst, s.append(nil))
}

// appendRespReplay appends a kept item as a backend of the same API takes it that knows
// nothing of it: without an id, but where the item is nothing without one. It reports
// false for what such a backend would refuse: reasoning that it cannot read.
func appendRespReplay(dst []byte, item gjson.Result) ([]byte, bool) {
	kind := respText(item.Get("type"))
	switch kind {
	case "reasoning":
		// Told in words (content), it is of a server that keeps it open and takes it back, such as vLLM with gpt-oss. OpenAI's
		// summaries alone are refused there, behind an id that it does not know.
		if respText(item.Get("encrypted_content")) == "" && item.Get("content.0.text").String() == "" {
			return dst, false
		}
	case "message", "", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output":
		return append(dst, withoutMember(item, "id")...), true
	}
	return append(dst, item.Raw...), true
}

// withoutMember is an object without a member.
func withoutMember(object gjson.Result, key string) string {
	var b []byte
	found := false
	object.ForEach(func(k, v gjson.Result) bool {
		if k.String() == key {
			found = true
			return true
		}
		if b == nil {
			b = append(b, '{')
		} else {
			b = append(b, ',')
		}
		b = append(append(append(b, k.Raw...), ':'), v.Raw...)
		return true
	})
	switch {
	case !found:
		return object.Raw
	case b == nil:
		return "{}"
	}
	return string(append(b, '}'))
}

// respReplayInput is the input for a backend of the same API: what was said before, and
// what the client says now with what it refers to in its place.
func respReplayInput(r *Request, input gjson.Result) string {
	b := []byte{'['}
	add := func(item gjson.Result, kept bool) {
		n := len(b)
		if n > 1 {
			b = append(b, ',')
		}
		ok := true
		if kept {
			b, ok = appendRespReplay(b, item)
		} else {
			b = append(b, item.Raw...)
		}
		if !ok {
			b = b[:n]
		}
	}
	r.eachOfHistory(func(item gjson.Result) bool { add(item, true); return true })
	if input.Type == gjson.String {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(append(b, `{"type":"message","role":"user","content":`...), input.Raw...), '}')
	}
	if input.IsArray() {
		input.ForEach(func(_, item gjson.Result) bool {
			if respRefers(item, item.Get("type")) {
				add(gjson.Parse(r.Items[respText(item.Get("id"))]), true)
			} else {
				add(item, false)
			}
			return true
		})
	}
	return string(append(b, ']'))
}

// eachOfHistory goes through the items of the history.
func (r *Request) eachOfHistory(f func(item gjson.Result) bool) {
	more := true
	for _, turn := range r.History {
		if turn == "" || !more {
			continue
		}
		gjson.Parse("[" + turn + "]").ForEach(func(_, item gjson.Result) bool {
			more = f(item)
			return more
		})
	}
}

// respKeeping is what a decoder of Responses answers knows of one that passes through and
// is kept.
type respKeeping struct {
	life  string   // the type of the frame decoded last, if it carries the response
	items [][]byte // that are done, by the order of their ends
	size  int
	begun bool
	ok    bool // the id may be used later
}

// life notes that the frame carries the response.
func (d *respDecoder) life(e *respFrame) {
	if d.keeping != nil {
		d.keeping.life = string(e.typ)
	}
}

// noteItem keeps an item for an answer whose last event does not repeat it.
func (k *respKeeping) noteItem(item []byte) {
	if k.size += len(item); k.size <= MaxAnswer {
		k.items = append(k.items, bytes.Clone(item))
	}
}

// AppendEdited implements Editor.
func (d *respDecoder) AppendEdited(dst []byte, f *sse.Frame, ok bool) []byte {
	life := d.keeping.life
	d.keeping.life = ""
	if life == "" {
		return append(dst, f.Raw...)
	}
	data := f.Data
	response := gjson.GetBytes(data, "response")
	if !response.IsObject() {
		return append(dst, f.Raw...)
	}
	edited := d.edit(response, life, ok)
	if edited == nil {
		return append(dst, f.Raw...)
	}
	at := bytes.Index(f.Raw, data)
	if at < 0 { // the frame had its data on several lines
		dst = append(append(append(dst, "event: "...), f.Event...), "\ndata: "...)
		dst = jsonx.AppendCompact(dst, data[:response.Index])
		dst = jsonx.AppendCompact(dst, edited)
		dst = jsonx.AppendCompact(dst, data[response.Index+len(response.Raw):])
		return append(dst, "\n\n"...)
	}
	dst = append(dst, f.Raw[:at+response.Index]...)
	dst = append(dst, edited...)
	return append(dst, f.Raw[at+response.Index+len(response.Raw):]...)
}

// AppendEditedBody implements Editor.
func (d *respDecoder) AppendEditedBody(dst, body []byte) []byte {
	response := gjson.ParseBytes(body)
	if d.s.Keep == nil || !response.IsObject() {
		return append(dst, body...)
	}
	life := firstOf(respText(response.Get("status")), "completed")
	if edited := d.edit(response, "response."+life, true); edited != nil {
		return append(dst, edited...)
	}
	return append(dst, body...)
}

// edit is a response with what the proxy has to say in it: its id, what it goes on from,
// and whether it was kept. nil: nothing.
func (d *respDecoder) edit(response gjson.Result, life string, ok bool) []byte {
	k := d.s.Keep
	raw := viewBytes(response.Raw)
	whole := ok && (life == "response.completed" || life == "response.incomplete")
	if !d.keeping.begun {
		d.keeping.begun, d.keeping.ok = true, true
		if k.Begin != nil {
			d.keeping.ok = k.Begin(firstOf(k.ID, respText(response.Get("id"))))
		}
	}
	if k.Native {
		kept := d.keeping.ok
		if whole && kept {
			kept = k.Save == nil || k.Save(&Kept{Status: life[len("response."):], Object: raw, Output: d.output(response)})
		}
		if kept {
			return nil
		}
		s := newSplice(raw)
		s.set("store", "false")
		return s.append(nil)
	}
	object := func(kept bool) *splice {
		s := newSplice(raw)
		s.set("id", quote(k.ID))
		if previous := response.Get("previous_response_id"); k.Previous != "" {
			s.set("previous_response_id", quote(k.Previous))
		} else if previous.Type != gjson.Null {
			s.set("previous_response_id", "null")
		}
		if k.Conversation != "" {
			s.set("conversation", `{"id":`+quote(k.Conversation)+`}`)
		}
		if k.Background {
			s.set("background", "true")
		}
		if !kept || !d.cognipeer { // whose server has no word for it
			s.set("store", strconv.FormatBool(kept))
		}
		return s
	}
	kept := d.keeping.ok && (whole || life != "response.failed" && life != "response.cancelled" && life != "response.completed" && life != "response.incomplete")
	if whole && kept {
		s := object(true)
		s.set("output", "[]")
		kept = k.Save(&Kept{Status: life[len("response."):], Object: s.append(nil), Output: d.output(response)})
	}
	return object(kept).append(nil)
}

// output are the items of a whole answer, with commas between them. Some servers leave
// them out of the last event.
func (d *respDecoder) output(response gjson.Result) []byte {
	var b []byte
	add := func(item []byte) {
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = respAppendJSON(b, item)
	}
	response.Get("output").ForEach(func(_, item gjson.Result) bool {
		add(viewBytes(item.Raw))
		return true
	})
	if len(b) == 0 {
		for _, item := range d.keeping.items {
			add(item)
		}
	}
	return b
}

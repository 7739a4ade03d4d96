package translate

import (
	"strings"

	"github.com/tidwall/gjson"
)

// JSON implements Decoder.
func (d *swarmsDecoder) JSON(body []byte, out Sink) {
	doc := gjson.Parse(viewString(body))
	if !doc.IsObject() {
		d.fail(Unreadable(errSwarmsShape), out)
		return
	}
	outputs, success, fault := doc.Get("outputs"), doc.Get("success"), doc.Get("error")
	if !outputs.Exists() {
		outputs = doc.Get("output") // of a swarm
	}
	switch {
	case success.Type == gjson.False || swarmsIsFault(fault) || swarmsFailedStatus(doc.Get("status").String()),
		!outputs.Exists() && doc.Get("detail").Exists():
		d.failed(body, out)
		return
	case !outputs.Exists():
		d.fail(Unreadable(errSwarmsShape), out)
		return
	}
	d.identify(doc)
	d.start(out)
	d.outputs(outputs, out)
	d.tokens(doc.Get("usage"), out)
	d.finish(out)
}

// swarmsEntry is one entry of outputs.
type swarmsEntry struct {
	role   string
	text   string
	calls  []int // in swarmsDecoder.calls
	said   bool  // the calls stood in a text
	result bool
	callID string
	of     int // the call that a result belongs to, in swarmsDecoder.calls
}

// outputs tells the entries of a JSON answer. Where several texts stand, the
// last one is the answer, those before it are commentary.
func (d *swarmsDecoder) outputs(v gjson.Result, out Sink) {
	entries := d.entries(v, out)
	texts := 0
	for i := range entries {
		if len(entries[i].calls) == 0 && !entries[i].result {
			texts++
		}
	}
	seen := 0
	for i := range entries {
		en := &entries[i]
		author := ""
		if texts > 1 {
			author = en.role
		}
		switch {
		case en.result:
			d.tellResult(en.of, en.callID, en.text, author, out)
		case len(en.calls) > 0:
			msg := -1
			for _, n := range en.calls {
				c := &d.calls[n]
				c.author = author
				msg = d.tell(c, c.ran || !d.offered(c.name), msg, out)
			}
		default:
			seen++
			phase := PhaseNone
			switch {
			case texts > 1 && seen == texts:
				phase = PhaseFinal
			case texts > 1:
				phase = PhaseCommentary
			}
			d.msgs++
			d.emit(&d.text, en.text, d.msgs-1, 0, author, phase, out)
		}
	}
}

// entries reads the outputs: a list of entries or of texts, one entry, a text.
// The prompts among them are left out, and calls that a result follows are
// marked.
func (d *swarmsDecoder) entries(v gjson.Result, out Sink) []swarmsEntry {
	var list []swarmsEntry
	add := func(v gjson.Result) {
		en := swarmsEntry{}
		content := v
		if v.IsObject() && v.Get("content").Exists() {
			role := v.Get("role").String()
			if swarmsIsPrompt(role) {
				return
			}
			en.role, content = swarmsAuthor(role), v.Get("content")
			id := v.Get("tool_call_id")
			en.result, en.callID = swarmsIsTool(role) || id.Type == gjson.String, id.String()
		}
		calls, isCalls := swarmsCalls(content)
		if !isCalls || en.result {
			en.text = swarmsContent(content)
			if en.text == "" && !en.result {
				return
			}
			if en.result {
				en.of = d.settle(en.callID, out)
			}
			list = append(list, en)
			return
		}
		if en.said = content.Type == gjson.String; en.said {
			en.text = content.String()
		}
		for _, c := range calls {
			if c.id == "" {
				c.id = d.setup.ID("call_", len(d.calls))
			}
			en.calls = append(en.calls, len(d.calls))
			d.know(c)
		}
		list = append(list, en)
	}
	if _, isCalls := swarmsCalls(v); v.IsArray() && !isCalls {
		v.ForEach(func(_, v gjson.Result) bool {
			add(v)
			return true
		})
	} else {
		add(v)
	}
	// A text that looks like calls is one if they are the client's, or if a result
	// shows that they were made; an agent may well write an example of one.
	for i := range list {
		en := &list[i]
		if !en.said {
			continue
		}
		mine, ran := true, false
		for _, n := range en.calls {
			mine, ran = mine && d.offered(d.calls[n].name), ran || d.calls[n].ran
		}
		if !mine && !ran {
			en.calls = nil
		}
	}
	return list
}

// swarmsIsPrompt reports whether an entry repeats what was asked.
func swarmsIsPrompt(role string) bool { return swarmsIsUser(role) || strings.EqualFold(role, "system") }

// swarmsAuthor is the name in a role: "assistant" is nobody's.
func swarmsAuthor(role string) string {
	if strings.EqualFold(role, "assistant") {
		return ""
	}
	return role
}

// swarmsIsEntries reports whether v is a list of {role, content}.
func swarmsIsEntries(v gjson.Result) bool {
	ok, n := v.IsArray(), 0
	v.ForEach(func(_, e gjson.Result) bool {
		n++
		ok = ok && e.IsObject() && e.Get("content").Exists()
		return ok
	})
	return ok && n > 0
}

// swarmsContent is the text of a content: a string, a list of texts or of text
// parts, else its JSON.
func swarmsContent(v gjson.Result) string {
	switch {
	case v.Type == gjson.String:
		return v.String()
	case swarmsAbsent(v):
		return ""
	case !v.IsArray():
		return v.Raw
	}
	var text []byte
	ok := true
	v.ForEach(func(_, p gjson.Result) bool {
		switch t := p.Get("text"); {
		case p.Type == gjson.String:
			text = append(text, p.String()...)
		case p.IsObject() && t.Type == gjson.String:
			text = append(text, t.String()...)
		default:
			ok = false
		}
		return ok
	})
	if !ok {
		return v.Raw
	}
	return viewString(text)
}

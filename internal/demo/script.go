package demo

import (
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// kind is what a piece of an answer is.
type kind uint8

const (
	thinking kind = iota
	text
	code
	table
	callout
	image
	status
	step   // a tool that the agent runs itself: text is its arguments, result what came of it
	call   // a tool that the client is to run: text is its arguments
	broken // the agent fails here
)

// piece is one part of an answer.
type piece struct {
	kind    kind
	text    string
	name    string // of a tool; the language of code
	title   string
	style   string
	result  string
	headers []string
	rows    [][]string
}

// question is what an agent needs to know of a request.
type question struct {
	text   string   // the last message of the user
	result string   // a tool's result, if that is what came last
	before []string // what the user and the tools had said before
	tool   bool     // get_weather is on offer
	stream bool
	model  string
	limit  int64 // of tokens; 0 if there is none
}

const weatherTool = "get_weather"

// hears takes what came last, of a user or of a tool.
func (q *question) hears(text string, tool bool) {
	last := q.text
	if q.result != "" {
		last = q.result
	}
	if last != "" {
		q.before = append(q.before, last)
	}
	if q.result = ""; tool {
		q.result = text
		return
	}
	q.text = text
}

// answer is what an agent says.
func answer(q question) []piece {
	said := strings.TrimSpace(q.text)
	switch {
	case q.result != "":
		return []piece{{kind: text, text: "The tool says: " + q.result}}
	case len(q.before) > 0 && strings.HasPrefix(strings.ToLower(said), "what did i say"):
		return []piece{{kind: text, text: "You said: “" + strings.Join(q.before, "”, “") + "”."}}
	case strings.HasPrefix(strings.ToLower(said), "fail"):
		return []piece{{kind: text, text: "I will try, but "}, {kind: broken, text: "the demo agent was asked to fail"}}
	case q.tool && strings.Contains(strings.ToLower(said), "weather"):
		return []piece{
			{kind: thinking, text: "The weather is what the tool is for."},
			{kind: text, text: "Let me look that up."},
			{kind: call, name: weatherTool, text: `{"city":"Paris","unit":"celsius"}`},
		}
	}
	return []piece{
		{kind: thinking, text: "The user wrote " + strconv.Itoa(len([]rune(said))) + " characters. I shall show what I can say."},
		{kind: status, text: "Preparing the tour"},
		{kind: step, name: "read_catalogue", text: `{"page":1}`, result: "3 entries"},
		{kind: text, text: "You said: “" + said + "”. This is a demo agent; here is what its protocol can carry.\n\nSome code:\n\n"},
		{kind: code, name: "python", text: "def greet(name):\n    return f\"Hello, {name}!\"\n"},
		{kind: text, text: "\nA table:\n\n"},
		{kind: table, headers: []string{"Kind", "Streams"}, rows: [][]string{{"text", "yes"}, {"thinking", "yes"}, {"a | b", "escaped"}}},
		{kind: callout, style: "success", title: "Done", text: "Everything above came as it was said."},
		{kind: image, text: "https://example.com/dragoman.png", title: "A dragoman between two courts"},
		{kind: text, text: "\nThat is all."},
	}
}

// cut keeps as much of an answer as the limit of tokens allows, and reports
// whether something was left out.
func cut(pieces []piece, limit int64) ([]piece, bool) {
	if limit <= 0 {
		return pieces, false
	}
	left := int(limit)
	for i := range pieces {
		n := tokens(pieces[i].text)
		if n <= left {
			left -= n
			continue
		}
		kept := append([]piece(nil), pieces[:i]...)
		if p := pieces[i]; left > 0 && (p.kind == text || p.kind == thinking) {
			all := words(p.text)
			p.text = ""
			for _, w := range all {
				if tokens(p.text+w) > left {
					break
				}
				p.text += w
			}
			kept = append(kept, p)
		}
		return kept, true
	}
	return pieces, false
}

// plain is a piece as an agent without components writes it: Markdown, or
// nothing.
func (p *piece) plain() string {
	switch p.kind {
	case text:
		return p.text
	case code:
		return "```" + p.name + "\n" + p.text + "```\n"
	case table:
		var b strings.Builder
		row := func(cells []string) {
			for _, c := range cells {
				b.WriteString("| " + strings.ReplaceAll(c, "|", `\|`) + " ")
			}
			b.WriteString("|\n")
		}
		row(p.headers)
		row(make([]string, len(p.headers)))
		s := strings.Replace(b.String(), strings.Repeat("|  ", len(p.headers)), strings.Repeat("| --- ", len(p.headers)), 1)
		b.Reset()
		b.WriteString(s)
		for _, r := range p.rows {
			row(r)
		}
		return b.String() + "\n"
	case callout:
		return "> **" + p.title + "** " + p.text + "\n\n"
	case image:
		return "![" + p.title + "](" + p.text + ")\n"
	}
	return ""
}

// said is all that an agent without components says.
func said(pieces []piece) string {
	var s strings.Builder
	for i := range pieces {
		s.WriteString(pieces[i].plain())
	}
	return s.String()
}

// words cuts a text behind its spaces, as a model's tokens come.
func words(s string) []string { return strings.SplitAfter(s, " ") }

// tokens is a rough count of them.
func tokens(s string) int { return (len(s) + 3) / 4 }

// readChat reads the messages of Chat Completions, Cycls and the like.
func readChat(doc gjson.Result) question {
	q := question{stream: doc.Get("stream").Bool(), model: doc.Get("model").String()}
	doc.Get("messages").ForEach(func(_, m gjson.Result) bool {
		t := flatten(m.Get("content"))
		if t == "" {
			t = flatten(m.Get("parts"))
		}
		switch m.Get("role").String() {
		case "user":
			q.hears(t, false)
		case "tool":
			q.hears(t, true)
		}
		return true
	})
	q.tool = offers(doc.Get("tools"))
	if q.limit = doc.Get("max_completion_tokens").Int(); q.limit == 0 {
		q.limit = doc.Get("max_tokens").Int()
	}
	return q
}

// flatten joins the texts of a content that may be a string or parts.
func flatten(v gjson.Result) string {
	if !v.IsArray() {
		return v.String()
	}
	s := ""
	v.ForEach(func(_, p gjson.Result) bool {
		s += p.Get("text").String()
		return true
	})
	return s
}

// offers reports whether the weather tool is among the tools, in either of the
// two forms that OpenAI's APIs have.
func offers(tools gjson.Result) bool {
	found := false
	tools.ForEach(func(_, t gjson.Result) bool {
		found = t.Get("function.name").String() == weatherTool || t.Get("name").String() == weatherTool
		return !found
	})
	return found
}

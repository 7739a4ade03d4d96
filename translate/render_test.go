package translate

import (
	"math/rand/v2"
	"testing"
	"unicode/utf8"
)

var (
	speaksText  = Speech{Blocks: Blocks(BlockText, BlockToolCall)}
	speaksThink = Speech{Blocks: Blocks(BlockText, BlockToolCall, BlockReasoning), OneReasoning: true, Overlap: true}
	speaksAll   = Speech{Blocks: ^BlockSet(0), Ran: true, Phase: true, Overlap: true}
)

func TestRender(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		speaks Speech
		in     string
		want   string
		ledger string
		url    string // options.public_url
	}{
		{name: "all of it is spoken", speaks: speaksAll, in: `
			start id="a"
			block 0 reasoning summary
			delta 0 "t"
			end 0 opaque="o"
			block 1 text msg=1
			delta 1 "x"
			annotation 1 {"type":"url_citation","start_index":0}
			block 2 tool_call msg=2 name="f" call="c" ran
			delta 2 "{}"
			end 1
			end 2
			block 3 tool_result msg=2 call="c" ran
			delta 3 "ok"
			end 3
			block 4 table msg=3 headers=["a"]
			delta 4 "[1]"
			end 4
			block 5 image msg=3 url="https://h/x.png"
			end 5
			usage input=1
			ping
			native name="n" data="d"
			finish stop`, want: `
			start id="a"
			block 0 reasoning summary
			delta 0 "t"
			end 0 opaque="o"
			block 1 text msg=1
			delta 1 "x"
			annotation 1 {"type":"url_citation","start_index":0}
			block 2 tool_call msg=2 name="f" call="c" ran
			delta 2 "{}"
			end 1
			end 2
			block 3 tool_result msg=2 call="c" ran
			delta 3 "ok"
			end 3
			block 4 table msg=3 headers=["a"]
			delta 4 "[1]"
			end 4
			block 5 image msg=3 url="https://h/x.png"
			end 5
			usage input=1
			ping
			native name="n" data="d"
			finish stop`},
		{name: "adjacent text is not touched", speaks: speaksText, in: `
			start
			block 0 text
			delta 0 "a\n"
			end 0
			block 1 text
			delta 1 "b"
			end 1
			finish stop`, want: `
			start
			block 0 text
			delta 0 "a\n"
			end 0
			block 1 text
			delta 1 "b"
			end 1
			finish stop`},
		{name: "code between texts", speaks: speaksText, in: `
			start
			block 0 text
			delta 0 "See:"
			end 0
			block 1 code language="py\nthon"
			delta 1 "x=1\n"
			delta 1 "y=2"
			end 1
			block 2 text
			delta 2 "Done"
			delta 2 "."
			end 2
			finish stop`, want: `
			start
			block 0 text
			delta 0 "See:"
			end 0
			block 1 text
			delta 1 "\n\n` + "````" + `python\n"
			delta 1 "x=1\n"
			delta 1 "y=2"
			delta 1 "\n` + "````" + `"
			end 1
			block 2 text
			delta 2 "\n\nDone"
			delta 2 "."
			end 2
			finish stop`},
		{name: "only the missing line ends are added", speaks: speaksText, in: `
			start
			block 0 text
			delta 0 "a\n"
			end 0
			block 1 code
			delta 1 "x\n"
			end 1
			block 2 text
			delta 2 "\nb\n"
			delta 2 "\n"
			end 2
			block 3 code
			delta 3 "y"
			end 3
			block 4 code
			delta 4 "z"
			end 4
			finish stop`, want: `
			start
			block 0 text
			delta 0 "a\n"
			end 0
			block 1 text
			delta 1 "\n` + "````" + `\n"
			delta 1 "x\n"
			delta 1 "` + "````" + `"
			end 1
			block 2 text
			delta 2 "\n\nb\n"
			delta 2 "\n"
			end 2
			block 3 text
			delta 3 "` + "````" + `\n"
			delta 3 "y"
			delta 3 "\n` + "````" + `"
			end 3
			block 4 text
			delta 4 "\n\n` + "````" + `\n"
			delta 4 "z"
			delta 4 "\n` + "````" + `"
			end 4
			finish stop`},
		{name: "messages stand apart by themselves", speaks: speaksText, in: `
			start
			block 0 code msg=0
			delta 0 "x"
			end 0
			block 1 text msg=1
			delta 1 "b"
			end 1
			finish stop`, want: `
			start
			block 0 text msg=0
			delta 0 "` + "````" + `\n"
			delta 0 "x"
			delta 0 "\n` + "````" + `"
			end 0
			block 1 text msg=1
			delta 1 "b"
			end 1
			finish stop`},
		{name: "a table row appears when it arrives", speaks: speaksText, in: `
			start
			block 0 table headers=["A","B|C"]
			delta 0 "[\"1\",2]"
			delta 0 "[\"x\\ny\",null]"
			end 0
			finish stop`, want: `
			start
			block 0 text
			delta 0 "| A | B\\|C |\n| --- | --- |"
			delta 0 "\n| 1 | 2 |"
			delta 0 "\n| x<br>y |  |"
			end 0
			finish stop`},
		{name: "callout, image, file, refusal", speaks: speaksText, in: `
			start
			block 0 callout style="success" title="All *good*"
			delta 0 "one\n"
			delta 0 "two"
			end 0
			block 1 image url="https://h/a b(1).png" alt="a [pic]" caption="see"
			end 1
			block 2 file url="https://h/r.pdf" name="r.pdf"
			end 2
			block 3 file url="data:text/plain;base64,AAAA" name="n.txt"
			end 3
			block 4 refusal
			delta 4 "No."
			end 4
			finish stop`, want: `
			start
			block 0 text
			delta 0 "> **Success: All \\*good\\***"
			delta 0 "\n>\n> one"
			delta 0 "\n> two"
			end 0
			block 1 text
			delta 1 "\n\n![a \\[pic\\]](https://h/a%20b%281%29.png)\n*see*"
			end 1
			block 2 text
			delta 2 "\n\n[r.pdf](https://h/r.pdf)"
			end 2
			block 3 text
			delta 3 "\n\nn.txt"
			end 3
			block 4 text
			delta 4 "\n\nNo."
			end 4
			finish stop`, ledger: "file.data"},
		{name: "activity goes to the ledger, its deltas with it", speaks: speaksText, in: `
			start
			block 0 reasoning
			block 1 status
			block 2 step name="s"
			block 3 data name="ui"
			block 4 tool_call name="f" call="c" ran
			delta 4 "{}"
			delta 3 "{}"
			delta 2 "x"
			delta 1 "busy"
			delta 0 "hm"
			end 4
			block 5 tool_result call="c" ran
			delta 5 "ok"
			end 5
			end 3
			end 2
			end 1
			end 0
			block 6 tool_call name="g" call="d"
			delta 6 "{}"
			end 6
			finish tool_calls`, want: `
			start
			block 6 tool_call name="g" call="d"
			delta 6 "{}"
			end 6
			finish tool_calls`, ledger: "reasoning, status, step, data, ran_tool_call, tool_result"},
		{name: "a face without tool calls", speaks: Speech{Blocks: Blocks(BlockText)}, in: `
			start
			block 0 tool_call name="g" call="d"
			delta 0 "{}"
			end 0
			finish tool_calls`, want: `
			start
			finish tool_calls`, ledger: "tool_call"},
		{name: "a call that ran is a step", speaks: Speech{Blocks: Blocks(BlockText, BlockStep)}, in: `
			start
			block 0 tool_call id="i" name="f" call="c" ran
			delta 0 "{}"
			end 0
			finish stop`, want: `
			start
			block 0 step id="i" name="f" call="c" ran
			delta 0 "f"
			end 0
			finish stop`, ledger: "ran_tool_call.arguments"},
		{name: "text before and after a step nobody sees", speaks: speaksText, in: `
			start
			block 0 text
			delta 0 "Let me look."
			end 0
			block 1 tool_call name="f" call="c" ran
			end 1
			block 2 status
			end 2
			block 3 text
			delta 3 "Found "
			delta 3 "it."
			end 3
			block 4 status
			end 4
			block 5 text
			delta 5 "Yes."
			end 5
			finish stop`, want: `
			start
			block 0 text
			delta 0 "Let me look."
			end 0
			block 3 text
			delta 3 "\n\nFound "
			delta 3 "it."
			end 3
			block 5 text
			delta 5 "Yes."
			end 5
			finish stop`, ledger: "ran_tool_call, status"},
		{name: "one kind of reasoning", speaks: speaksThink, in: `
			start
			block 0 reasoning summary
			block 1 reasoning
			delta 1 "raw"
			delta 0 "summary"
			end 0
			end 1
			block 2 reasoning part=1
			delta 2 "more"
			end 2
			finish stop`, want: `
			start
			block 0 reasoning summary
			block 1 reasoning
			delta 1 "raw"
			end 0
			end 1
			block 2 reasoning part=1
			delta 2 "more"
			end 2
			finish stop`, ledger: "reasoning"},
		{name: "commentary is reasoning", speaks: speaksThink, in: `
			start
			block 0 text msg=0 author="Ann" phase=commentary
			delta 0 "First"
			end 0
			block 1 code msg=0 author="Ann" phase=commentary language="go"
			delta 1 "x"
			end 1
			block 2 text msg=1 part=1 author="Bob" phase=commentary
			delta 2 "Second"
			annotation 2 {"type":"url_citation"}
			end 2
			block 3 reasoning msg=2
			delta 3 "hm"
			end 3
			block 4 text msg=3 author="Bob" phase=final_answer
			delta 4 "Answer"
			end 4
			finish stop`, want: `
			start
			block 0 reasoning msg=0 author="Ann" phase=commentary
			delta 0 "Ann: First"
			end 0
			block 1 reasoning msg=0 author="Ann" phase=commentary
			delta 1 "\n\n` + "````" + `go\n"
			delta 1 "x"
			delta 1 "\n` + "````" + `"
			end 1
			block 2 reasoning msg=1 part=0 author="Bob" phase=commentary
			delta 2 "Bob: Second"
			end 2
			block 3 reasoning msg=2
			delta 3 "hm"
			end 3
			block 4 text msg=3 author="Bob" phase=final_answer
			delta 4 "Answer"
			end 4
			finish stop`, ledger: "annotations"},
		{name: "commentary that begins with code", speaks: speaksThink, in: `
			start
			block 0 text author="Ann" phase=commentary
			end 0
			block 1 image url="https://h/a.png" author="Ann" phase=commentary
			end 1
			block 2 text author="Ann" phase=commentary
			delta 2 "See?"
			end 2
			finish stop`, want: `
			start
			block 0 reasoning author="Ann" phase=commentary
			end 0
			block 1 reasoning author="Ann" phase=commentary
			delta 1 "Ann:\n\n![](https://h/a.png)"
			end 1
			block 2 reasoning author="Ann" phase=commentary
			delta 2 "\n\nSee?"
			end 2
			finish stop`},
		{name: "commentary stays text where nothing else is spoken", speaks: speaksText, in: `
			start
			block 0 text msg=0 author="Ann" phase=commentary
			delta 0 "First"
			end 0
			finish stop`, want: `
			start
			block 0 text msg=0 author="Ann" phase=commentary
			delta 0 "First"
			end 0
			finish stop`},
		{name: "offsets move with the text", speaks: speaksText, in: `
			start
			block 0 refusal
			delta 0 "No."
			end 0
			block 1 text
			delta 1 "abc"
			annotation 1 {"type":"url_citation","start_index": 9,"url":"u","end_index":10}
			end 1
			finish stop`, want: `
			start
			block 0 text
			delta 0 "No."
			end 0
			block 1 text
			delta 1 "\n\nabc"
			annotation 1 {"type":"url_citation","start_index": 11,"url":"u","end_index":12}
			end 1
			finish stop`},
		{name: "interleaved content is put in order", speaks: speaksThink, in: `
			start
			block 0 text
			delta 0 "a"
			block 1 code
			delta 1 "x"
			block 2 tool_call name="f" call="c"
			delta 0 "b"
			delta 2 "{}"
			end 0
			delta 1 "y"
			end 1
			end 2
			finish tool_calls`, want: `
			start
			block 0 text
			delta 0 "a"
			block 2 tool_call name="f" call="c"
			delta 0 "b"
			delta 2 "{}"
			end 0
			block 1 text
			delta 1 "\n\n` + "````" + `\n"
			delta 1 "x"
			delta 1 "y"
			delta 1 "\n` + "````" + `"
			end 1
			end 2
			finish tool_calls`},
		{name: "a relative image is resolved", speaks: speaksAll, url: "https://agent.example/base/", in: `
			start
			block 0 image url="/public/a.png" alt="A"
			end 0
			block 1 image url="data:image/png;base64,AA"
			end 1
			finish stop`, want: `
			start
			block 0 image url="https://agent.example/base/public/a.png" alt="A"
			end 0
			block 1 image url="data:image/png;base64,AA"
			end 1
			finish stop`},
		{name: "or kept and noted", speaks: speaksText, in: `
			start
			block 0 image url="/public/a.png" alt="A"
			end 0
			finish stop`, want: `
			start
			block 0 text
			delta 0 "![A](/public/a.png)"
			end 0
			finish stop`, ledger: "image.src"},
		{name: "new text for what was rendered already", speaks: speaksText, in: `
			start
			block 0 callout
			delta 0 "a" replace
			delta 0 "ab" replace
			end 0
			finish stop`, want: `
			start
			block 0 text
			delta 0 "> a"
			end 0
			finish stop`, ledger: "replaced_text"},
		{name: "failure", speaks: speaksText, in: `
			start
			block 0 code
			delta 0 "x"
			fail status=502 code="c" message="m"`, want: `
			start
			block 0 text
			delta 0 "` + "````" + `\n"
			delta 0 "x"
			fail status=502 code="c" message="m"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			setup := &Setup{Ledger: &Ledger{}, Agent: &Agent{Options: map[string]string{}}}
			if c.url != "" {
				setup.Agent.Options["public_url"] = c.url
			}
			checkStage(t, func(next Sink) Sink { return newRender(setup, &c.speaks, next) }, c.in, c.want)
			if got := setup.Ledger.Header(); got != c.ledger {
				t.Errorf("ledger %q, want %q", got, c.ledger)
			}
		})
	}
}

func TestRenderBlock(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		b    Block
		want string
	}{
		{"text", Block{Type: BlockText, Text: "a\n"}, "a\n"},
		{"refusal", Block{Type: BlockRefusal, Text: "no"}, "no"},
		{"reasoning", Block{Type: BlockReasoning, Text: "hm"}, "hm"},
		{"tool call", Block{Type: BlockToolCall, Text: "{}", Name: "f"}, ""},
		{"empty code", Block{Type: BlockCode}, "````\n````"},
		{"code", Block{Type: BlockCode, Text: "a\n\n", Language: "c++"}, "````c++\na\n\n````"},
		{"code with fences", Block{Type: BlockCode, Text: "`````\nx\n`````"}, "``````\n`````\nx\n`````\n``````"},
		{"table", Block{Type: BlockTable, Headers: `["a"]`, Rows: []string{`["b\\|c\\"]`, `[true,"x"]`, `[]`, `{"k":1}`}},
			"| a |\n| --- |\n| b\\\\\\|c\\ |\n| true<br>x |\n|  |\n| {\"k\":1} |"},
		{"table without headers", Block{Type: BlockTable, Rows: []string{`["a","b"]`}}, "|  |  |\n| --- | --- |\n| a | b |"},
		{"table of nothing", Block{Type: BlockTable, Headers: `[]`}, ""},
		{"callout", Block{Type: BlockCallout, Text: "\na\n\nb\r\n", Style: "warning"}, "> **Warning**\n>\n> a\n> \n> b"},
		{"plain callout", Block{Type: BlockCallout, Text: "a"}, "> a"},
		{"callout of a title", Block{Type: BlockCallout, Title: "T\nU"}, "> **T U**"},
		{"image by id", Block{Type: BlockImage, FileID: "file-1"}, "![](file-1)"},
		{"image in base64", Block{Type: BlockImage, Data: "AA==", MIME: "image/gif"}, "![](data:image/gif;base64,AA==)"},
		{"nameless file", Block{Type: BlockFile, URL: "https://h/d/r.pdf?x=1"}, "[r.pdf](https://h/d/r.pdf?x=1)"},
		{"file by id", Block{Type: BlockFile, FileID: "file-1", Caption: " c "}, "file-1\n*c*"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := string(RenderBlock([]byte("^"), &c.b)); got != "^"+c.want {
				t.Errorf("got %q, want %q", got, "^"+c.want)
			}
		})
	}
}

// However the code is cut into pieces, it comes out the same, and no line of it
// closes the fence.
func TestCodeNeverClosesItsFence(t *testing.T) {
	t.Parallel()
	const code = "a\n````\n   ````` \n ```x\n    ````\n``\r````\r\n`` ``\n   "
	const want = "````md\na\n    ````\n       ````` \n ```x\n    ````\n``\r    ````\r\n`` ``\n   \n````"
	for cut := range code {
		for size := 1; size < 7; size++ {
			var m markdown
			got := m.start(nil, &Block{Type: BlockCode, Language: "md"})
			got = m.delta(got, []byte(code[:cut]))
			for rest := code[cut:]; rest != ""; {
				n := min(size, len(rest))
				got = m.delta(got, []byte(rest[:n]))
				rest = rest[n:]
			}
			got = m.end(got)
			if string(got) != want {
				t.Fatalf("cut at %d, then by %d:\ngot  %q\nwant %q", cut, size, got, want)
			}
		}
	}
}

func TestResolveURL(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{
		{"https://h", "/a.png", "https://h/a.png"},
		{"https://h/", "a.png", "https://h/a.png"},
		{"https://h/base", "/a.png?q#f", "https://h/base/a.png?q#f"},
		{"https://h/base", "//cdn/a.png", "https://cdn/a.png"},
	} {
		if got := resolveURL(c[0], c[1]); got != c[2] {
			t.Errorf("%s under %s: got %s, want %s", c[1], c[0], got, c[2])
		}
	}
	for url, want := range map[string]bool{"": false, "a": true, "/a:b": true, "http://x": false, "data:x": false, ":x": true, "1a:b": true, "a+b.c-1:x": false} {
		if got := isRelative(url); got != want {
			t.Errorf("isRelative(%q) = %v", url, got)
		}
	}
}

// renderedText renders text as blocks of every kind of content, in pieces.
func renderedText(t *testing.T, text, row string, speaks Speech, pieces func(s string) []string) string {
	t.Helper()
	fold := NewFold()
	c := &Checker{Next: fold}
	s := newRender(&Setup{Ledger: &Ledger{}}, &speaks, c)
	s.Event(&Event{Kind: EventStart})
	for i, typ := range []BlockType{BlockText, BlockCode, BlockCallout, BlockText, BlockTable, BlockText, BlockRefusal, BlockText} {
		s.Event(&Event{Kind: EventBlockStart, Index: i, Block: &Block{Type: typ, Headers: row, Language: text, Title: row}})
		all := []string{row} // a row is never in pieces
		if typ != BlockTable {
			all = pieces(text)
		}
		for _, p := range all {
			if p != "" {
				s.Event(&Event{Kind: EventBlockDelta, Index: i, Data: []byte(p)})
			}
		}
		s.Event(&Event{Kind: EventBlockEnd, Index: i})
	}
	s.Event(&Event{Kind: EventFinish})
	if err := c.Err(); err != nil {
		t.Fatal(err)
	}
	return fold.Text()
}

// However an answer comes in pieces, the Markdown made of it is the same.
func TestRenderedTextDoesNotDependOnItsPieces(t *testing.T) {
	t.Parallel()
	letters := []string{"\n", "\n", "`", "```", " ", "a", "é", "|", ">", "\r", "\r\n", "\\", "日本", "*", "# ", "- ", "[x](y)"}
	for seed := range uint64(3000) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		text := ""
		for range rnd.IntN(14) {
			text += letters[rnd.IntN(len(letters))]
		}
		cuts := func(s string) (all []string) {
			for s != "" {
				n := 1 + rnd.IntN(len(s))
				for n < len(s) && !utf8.RuneStart(s[n]) {
					n++
				}
				all, s = append(all, s[:n]), s[n:]
			}
			return all
		}
		whole := func(s string) []string { return []string{s} }
		if a, b := renderedText(t, text, `["x","y|z"]`, speaksText, whole), renderedText(t, text, `["x","y|z"]`, speaksText, cuts); a != b {
			t.Fatalf("%q (seed %d):\nwhole  %q\npieces %q", text, seed, a, b)
		}
	}
}

// Markdown that an agent wrote is text, for every face: nobody guesses that it
// was code or a table.
func TestMarkdownOfAChatBackendStaysText(t *testing.T) {
	t.Parallel()
	const text = "# Title\n\n```python\nx = 1\n```\n\n| A | B |\n| --- | --- |\n| 1 | 2 |\n\n> **Warning**\n>\n> Careful\n\n![A](https://example.com/a.png)\n"
	body := []byte(`{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":` + quote(text) + `},"finish_reason":"stop"}]}`)
	for _, face := range registry {
		for _, stream := range []bool{true, false} {
			out, a, _ := (&goldenCase{backend: Lookup("chat"), body: body, status: 200}).answer(t, face, stream, nil)
			if a.Err() != nil {
				t.Fatal(a.Err())
			}
			f := readBack(t, face, stream, out)
			f.Each(func(_ *FoldMessage, b FoldBlock) {
				if b.Type != BlockText {
					t.Errorf("%s: a %s block", face.Name, b.Type)
				}
			})
			if got := f.Text(); got != text {
				t.Errorf("%s, stream %v: %q", face.Name, stream, got)
			}
		}
	}
}

func FuzzRender(f *testing.F) {
	f.Add("a|b\n", `["x","y|z"]`, uint8(0))
	f.Add("\n\na", `["x"]`, uint8(1))
	f.Add("````\n \r\n", `[]`, uint8(3))
	f.Fuzz(func(t *testing.T, text, row string, cut uint8) {
		n := min(int(cut), len(text))
		whole := func(s string) []string { return []string{s} }
		pieces := func(s string) []string { return []string{s[:n], s[n:]} }
		if a, b := renderedText(t, text, row, speaksText, whole), renderedText(t, text, row, speaksText, pieces); a != b {
			t.Fatalf("cut at %d:\n%q\n%q", n, a, b)
		}
	})
}

package translate

import (
	"fmt"
	"strings"
	"testing"
)

func foldText(t *testing.T, text string) *Fold {
	t.Helper()
	f := NewFold()
	var scratch []byte
	for _, e := range parseEventText(t, text) {
		scratch = append(scratch[:0], e.Data...)
		e.Data = scratch
		f.Event(e)
		for i := range scratch {
			scratch[i] = '#'
		}
	}
	return f
}

// describeFold writes what a Fold holds, a line a block.
func describeFold(f *Fold) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %d %s\n", f.ID, f.Model, f.Created, f.Handle)
	f.Each(func(m *FoldMessage, k FoldBlock) {
		fmt.Fprintf(&b, "%d/%d %s %q %s rows=%v lp=%s ann=%v %s opaque=%s by=%s %s\n", m.Msg, k.Part, k.Type, k.Text, k.Name,
			k.Rows, k.Logprobs, k.Annotations, k.Status, k.Opaque, m.Author, m.Phase)
	})
	return b.String()
}

func TestFold(t *testing.T) {
	t.Parallel()
	f := foldText(t, `
		start id="i" model="m" created=7 handle="h"
		block 0 text msg=0 author="Ann" phase=commentary
		block 1 tool_call msg=1 name="f" call="c"
		delta 0 "a" logprobs=[{"t":1}]
		delta 1 "{\"x\""
		delta 0 "b" logprobs=[]
		delta 0 "c" logprobs=[{"t":2},{"t":3}]
		annotation 0 {"type":"url_citation"}
		end 0
		usage input=3
		delta 1 ":1}"
		end 1 incomplete
		block 2 table msg=0 part=1
		delta 2 "[1]"
		delta 2 "[2]"
		end 2
		block 3 text msg=2
		delta 3 "wrong"
		delta 3 "right" replace
		end 3 opaque="o"
		block 4 text msg=2 part=1
		end 4
		delta 9 "of nothing"
		annotation 9 {}
		end 9
		usage output=4 total=7
		finish length word="max"`)
	const want = `i m 7 h
0/0 text "abc"  rows=[] lp=[{"t":1},{"t":2},{"t":3}] ann=[{"type":"url_citation"}] completed opaque= by=Ann commentary
0/1 table ""  rows=[[1] [2]] lp= ann=[] completed opaque= by=Ann commentary
1/0 tool_call "{\"x\":1}" f rows=[] lp= ann=[] incomplete opaque= by= 
2/0 text "right"  rows=[] lp= ann=[] completed opaque=o by= 
2/1 text ""  rows=[] lp= ann=[] completed opaque= by= 
`
	if got := describeFold(f); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if f.Usage != told(3, 4, 7) {
		t.Errorf("usage %+v", f.Usage)
	}
	if !f.Ended || f.Err != nil || f.Reason != FinishLength || f.Word != "max" {
		t.Errorf("ended %v err %v reason %v word %q", f.Ended, f.Err, f.Reason, f.Word)
	}
	if got, want := f.Text(), "abc\n\nright"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
	if f.Size == 0 {
		t.Error("size 0")
	}
}

func TestFoldFailure(t *testing.T) {
	t.Parallel()
	f := foldText(t, `
		start
		block 0 text
		delta 0 "a"
		end 0
		block 1 text msg=1
		delta 1 "b"
		fail status=502 code="c" message="m"`)
	if !f.Ended || f.Err == nil || f.Err.Code != "c" {
		t.Fatalf("ended %v err %v", f.Ended, f.Err)
	}
	if got, want := f.Messages[0].Blocks[0].Status, StatusComplete; got != want {
		t.Errorf("the first block is %v, want %v", got, want)
	}
	if b := f.Messages[1].Blocks[0]; b.Status != StatusFailed || b.Text != "b" {
		t.Errorf("the second block is %v %q, want failed and its text", b.Status, b.Text)
	}
}

// A block's description may borrow from a read buffer.
func TestFoldCopiesDescriptions(t *testing.T) {
	t.Parallel()
	buf := []byte("abcdefgh")
	view := viewString(buf)
	b := Block{Type: BlockToolResult, ID: view, Name: view, CallID: view, Language: view, Style: view, Title: view, Headers: view, URL: view,
		Alt: view, Caption: view, Data: view, MIME: view, FileID: view, Detail: view, Opaque: view, Native: view,
		Parts: []Block{{Type: BlockText, Text: view}}}
	f := NewFold()
	f.Event(&Event{Kind: EventStart, ID: view, Model: view, Handle: view})
	f.Event(&Event{Kind: EventBlockStart, Block: &b, Author: view})
	f.Event(&Event{Kind: EventBlockEnd, Opaque: view})
	f.Event(&Event{Kind: EventFinish, Word: view})
	copy(buf, "########")
	if got := fmt.Sprintf("%+v %+v %s %s %s %s", *f.Messages[0].Blocks[0].Block, f.Messages[0].Author, f.ID, f.Model, f.Handle, f.Word); strings.Contains(got, "#") {
		t.Errorf("a string still borrows: %s", got)
	}
}

// told is a usage of which only this was told; -1 was not.
func told(input, output, total int64) Usage {
	u := NoUsage()
	u.Input, u.Output, u.Total = input, output, total
	return u
}

func TestUsage(t *testing.T) {
	t.Parallel()
	u := NoUsage()
	if u.Known() || u.Sum() != 0 {
		t.Errorf("nothing is known: %+v", u)
	}
	first := told(3, -1, -1)
	first.Cached, first.Written, first.AudioIn = 0, 1, 2
	u.Merge(first)
	second := told(-1, 4, -1)
	second.Reasoning, second.AudioOut, second.Accepted, second.Rejected = 3, 4, 5, 6
	u.Merge(second)
	want := Usage{Input: 3, Output: 4, Total: -1, Cached: 0, Written: 1, AudioIn: 2, Reasoning: 3, AudioOut: 4, Accepted: 5, Rejected: 6}
	if u != want || u.Sum() != 7 || !u.Known() {
		t.Errorf("got %+v (sum %d), want %+v", u, u.Sum(), want)
	}
	u.Merge(told(-1, 0, 9))
	if u.Sum() != 9 || u.Output != 0 {
		t.Errorf("got %+v", u)
	}
}

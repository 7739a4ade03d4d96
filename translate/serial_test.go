package translate

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// feedText sends events in text form through a stage that has the checker on
// both sides, and returns what came out.
func feedText(t *testing.T, stage func(Sink) Sink, text string) string {
	t.Helper()
	log := &eventLog{}
	after := &Checker{Next: log}
	before := &Checker{Next: stage(after)}
	scratch := []byte{}
	for _, e := range parseEventText(t, text) {
		// Events borrow: what a stage keeps without copying is overwritten here.
		scratch = append(scratch[:0], e.Data...)
		e.Data = scratch
		before.Event(e)
		for i := range scratch {
			scratch[i] = '#'
		}
	}
	if err := before.Err(); err != nil {
		t.Fatalf("the test itself breaks the order of events: %v", err)
	}
	if err := after.Err(); err != nil {
		t.Errorf("the stage breaks the order of events: %v", err)
	}
	return log.String()
}

func checkStage(t *testing.T, stage func(Sink) Sink, in, want string) {
	t.Helper()
	if got, want := feedText(t, stage, in), canonicalEvents(t, want); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestSerialPutsBlocksInOrder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, want string }{
		{"nothing overlaps", `
			start
			block 0 text
			delta 0 "a"
			end 0
			usage input=1
			block 1 text
			delta 1 "b"
			end 1
			finish stop`, `
			start
			block 0 text
			delta 0 "a"
			end 0
			usage input=1
			block 1 text
			delta 1 "b"
			end 1
			finish stop`},
		{"interleaved calls", `
			start
			block 0 tool_call name="f" call="c0"
			block 1 tool_call name="g" call="c1"
			delta 0 "{\"a\""
			delta 1 "{\"b\""
			delta 0 ":1}"
			delta 1 ":"
			usage input=1
			ping
			native name="x" data="y"
			end 0
			delta 1 "2}"
			end 1
			finish tool_calls`, `
			start
			block 0 tool_call name="f" call="c0"
			delta 0 "{\"a\""
			delta 0 ":1}"
			usage input=1
			ping
			native name="x" data="y"
			end 0
			block 1 tool_call name="g" call="c1"
			delta 1 "{\"b\":"
			delta 1 "2}"
			end 1
			finish tool_calls`},
		{"the second ends first, a third streams on", `
			start
			block 0 text
			block 1 text part=1
			block 2 table part=2 headers=["a"]
			delta 1 "one"
			annotation 1 {"type":"url_citation"}
			delta 1 "two"
			delta 1 "new" replace
			end 1 incomplete opaque="z"
			delta 2 "[1]"
			delta 2 "[2]"
			delta 0 "zero"
			end 0
			delta 2 "[3]"
			end 2
			finish stop`, `
			start
			block 0 text
			delta 0 "zero"
			end 0
			block 1 text part=1
			delta 1 "one"
			annotation 1 {"type":"url_citation"}
			delta 1 "two"
			delta 1 "new" replace
			end 1 incomplete opaque="z"
			block 2 table part=2 headers=["a"]
			delta 2 "[1]"
			delta 2 "[2]"
			delta 2 "[3]"
			end 2
			finish stop`},
		{"logprobs are kept apart", `
			start
			block 0 text
			block 1 text
			delta 1 "a" logprobs=[1]
			delta 1 "b" logprobs=[2]
			delta 1 "c"
			end 0
			end 1
			finish stop`, `
			start
			block 0 text
			end 0
			block 1 text
			delta 1 "a" logprobs=[1]
			delta 1 "b" logprobs=[2]
			delta 1 "c"
			end 1
			finish stop`},
		{"a failure tells what had come, but no broken call", `
			start
			block 0 text
			delta 0 "a"
			block 1 tool_call name="f" call="c1"
			delta 1 "{"
			block 2 text
			delta 2 "b"
			block 3 tool_call name="g" call="c3"
			delta 3 "{}"
			end 3
			fail status=502 code="x" message="y"`, `
			start
			block 0 text
			delta 0 "a"
			end 0 failed
			block 2 text
			delta 2 "b"
			end 2 failed
			block 3 tool_call name="g" call="c3"
			delta 3 "{}"
			end 3
			fail status=502 code="x" message="y"`},
		{"a failure with nothing waiting", `
			start
			block 0 text
			delta 0 "a"
			fail status=502 code="x" message="y"`, `
			start
			block 0 text
			delta 0 "a"
			fail status=502 code="x" message="y"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			checkStage(t, newSerial, c.in, c.want)
		})
	}
}

func TestSerialBufferIsBounded(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 1000, maxHeld} {
		fold := NewFold()
		check := &Checker{Next: fold}
		s := newSerial(check)
		s.Event(&Event{Kind: EventStart})
		s.Event(&Event{Kind: EventBlockStart, Index: 0, Block: &Block{Type: BlockText}})
		data := bytes.Repeat([]byte("x"), size)
		sent := 0
		for i := 1; fold.Err == nil && i < maxHeld; i++ {
			s.Event(&Event{Kind: EventBlockStart, Index: i, Block: &Block{Type: BlockTable}})
			if size > 0 {
				s.Event(&Event{Kind: EventBlockDelta, Index: i, Data: data})
			}
			sent += size
		}
		if fold.Err == nil || fold.Err.Status != 502 || fold.Err.Kind != KindBackend {
			t.Fatalf("rows of %d bytes: err %v, want a bad gateway", size, fold.Err)
		}
		if sent > maxHeld+size {
			t.Errorf("rows of %d bytes: %d bytes were taken", size, sent)
		}
		// What follows a failure vanishes.
		s.Event(&Event{Kind: EventBlockDelta, Index: 0, Data: []byte("x")})
		s.Event(&Event{Kind: EventBlockEnd, Index: 0})
		s.Event(&Event{Kind: EventFinish})
		if err := check.Err(); err != nil {
			t.Errorf("rows of %d bytes: %v", size, err)
		}
	}
}

func TestSerialBufferIsGivenBack(t *testing.T) {
	t.Parallel()
	fold := NewFold()
	s := newSerial(fold)
	s.Event(&Event{Kind: EventStart})
	data := bytes.Repeat([]byte("x"), maxHeld/2)
	for i := 0; i < 20; i += 2 {
		for j := i; j < i+2; j++ {
			s.Event(&Event{Kind: EventBlockStart, Index: j, Block: &Block{Type: BlockText}})
			s.Event(&Event{Kind: EventBlockDelta, Index: j, Data: data})
		}
		s.Event(&Event{Kind: EventBlockEnd, Index: i})
		s.Event(&Event{Kind: EventBlockEnd, Index: i + 1})
	}
	s.Event(&Event{Kind: EventFinish})
	if fold.Err != nil {
		t.Errorf("got %v, want none: the buffer was emptied in between", fold.Err)
	}
	if got, want := len(fold.Text()), 20*maxHeld/2; got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
}

func TestStagesAllocateNothingInTheSteadyState(t *testing.T) {
	for _, speaks := range []Speech{
		{Blocks: Blocks(BlockText, BlockReasoning), OneReasoning: true, Overlap: true},
		{Blocks: Blocks(BlockText), Phase: true},
		{Blocks: Blocks(BlockText, BlockTable, BlockCode)},
	} {
		sink := &countSink{}
		var next Sink = sink
		if !speaks.Overlap {
			next = newSerial(next)
		}
		s := newRender(&Setup{Ledger: &Ledger{}}, &speaks, next)
		s.Event(&Event{Kind: EventStart})
		types := []BlockType{BlockText, BlockCode, BlockTable, BlockReasoning}
		for i, typ := range types {
			s.Event(&Event{Kind: EventBlockStart, Index: i, Block: &Block{Type: typ, Headers: `["a","b"]`}})
			e := &Event{Kind: EventBlockDelta, Index: i, Data: []byte("[\"wo|rd\\n\"]")}
			s.Event(e)
			if n := testing.AllocsPerRun(100, func() { s.Event(e) }); n > 0 {
				t.Errorf("%s on a face with blocks %b: %v allocations a delta", typ, speaks.Blocks, n)
			}
			s.Event(&Event{Kind: EventBlockEnd, Index: i})
		}
	}
}

type countSink struct{ events, bytes int }

func (s *countSink) Event(e *Event) {
	s.events++
	s.bytes += len(e.Data)
}

func BenchmarkStages(b *testing.B) {
	for _, overlap := range []bool{true, false} {
		b.Run(fmt.Sprintf("overlap=%v", overlap), func(b *testing.B) {
			b.ReportAllocs()
			speaks := &Speech{Blocks: Blocks(BlockText), Overlap: overlap}
			var next Sink = &countSink{}
			if !overlap {
				next = newSerial(next)
			}
			s := newRender(&Setup{Ledger: &Ledger{}}, speaks, next)
			s.Event(&Event{Kind: EventStart})
			s.Event(&Event{Kind: EventBlockStart, Block: &Block{}})
			e := &Event{Kind: EventBlockDelta, Data: []byte(strings.Repeat("word ", 4))}
			for b.Loop() {
				s.Event(e)
			}
		})
	}
}

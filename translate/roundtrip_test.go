package translate

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dragoman-proxy/dragoman/internal/sse"
)

// essence is what must survive being written by a face and read again by the
// same protocol's decoder. Line feeds are left out of texts, because messages
// and parts become one text with blank lines between them in many protocols.
type essence struct {
	text, refusal, reasoning string
	calls, others            []string
	callIDs, twice           []string
	annotations              int
	logprobs                 string
	usage                    Usage
	reason                   FinishReason
	tier                     string
	failed                   bool
	order                    string // of text, thoughts, refusals and calls
	lastCallout              string // at the very end
}

func essenceOf(f *Fold) essence {
	e := essence{reason: f.Reason, tier: f.Tier, usage: f.Usage, failed: f.Err != nil}
	flat := func(s string) string { return strings.ReplaceAll(s, "\n", "") }
	last := BlockData
	f.Each(func(m *FoldMessage, b FoldBlock) {
		if b.Type == BlockToolCall && !b.Ran || b.Type < BlockToolCall && b.Type != last && b.Text != "" {
			e.order += b.Type.String() + " "
			last = b.Type
		}
		if b.Type == BlockToolCall && b.CallID != "" && !b.Ran {
			if slices.Contains(e.callIDs, b.CallID) {
				e.twice = append(e.twice, b.CallID)
			}
			e.callIDs = append(e.callIDs, b.CallID)
		}
		switch b.Type {
		case BlockText:
			e.text += flat(b.Text)
			e.annotations += len(b.Annotations)
			e.logprobs += strings.Trim(b.Logprobs, "[]")
		case BlockRefusal:
			e.refusal += flat(b.Text)
		case BlockReasoning:
			e.reasoning += flat(b.Text)
		case BlockToolCall:
			if b.Ran {
				e.others = append(e.others, "ran "+b.Name)
				return
			}
			e.calls = append(e.calls, fmt.Sprintf("%s %s custom=%v %s", b.Name, b.CallID, b.Custom, firstOf(b.Text, "{}")))
		case BlockCode, BlockTable, BlockCallout, BlockImage:
			style := b.Style
			if b.Type == BlockCallout {
				style = firstOf(style, "info") // which the Cycls face writes out
			}
			e.others = append(e.others, fmt.Sprintf("%s %s|%s|%s|%s|%s|%s|%q|%s|%s", b.Type, b.Text, b.Language, style, b.Title, b.Headers, b.URL, b.Rows, b.Alt, b.Caption))
		}
		if e.lastCallout = ""; b.Type == BlockCallout {
			e.lastCallout = b.Text
		}
	})
	return e
}

// cycls leaves out what the Cycls wire cannot tell: token counts, a custom tool's
// call from a function's, and a table without headers.
func (e *essence) cycls() {
	e.usage = NoUsage()
	for i := range e.calls {
		e.calls[i] = strings.Replace(e.calls[i], "custom=true", "custom=false", 1)
	}
	for i, o := range e.others {
		if strings.HasPrefix(o, "table ||||||") {
			e.others[i] = strings.Replace(o, "table ||||||", `table ||||["",""]||`, 1)
		}
	}
}

// readAgain decodes what a face has sent with the decoder of the same protocol.
func readAgain(t *testing.T, face *Protocol, stream bool, out []byte) (*Fold, []string) {
	t.Helper()
	s := goldenSetup(t, face, stream)
	fold := NewFold()
	check := &Checker{Next: fold}
	d := face.NewDecoder(s)
	if !stream {
		d.JSON(out, check)
	} else {
		r := sse.Reader{Max: MaxFrame}
		r.Feed(out)
		for f, ok := r.Next(); ok; f, ok = r.Next() {
			d.Frame(&f, check)
		}
		if !check.Ended() {
			d.End(nil, check)
		}
	}
	if err := check.Err(); err != nil {
		t.Errorf("%s, read again: %v", face.Name, err)
	}
	if !check.Ended() {
		t.Errorf("%s, read again: no end", face.Name)
	}
	return fold, s.Ledger.Names()
}

// TestRoundTrip: what a face sends for a golden case means to a decoder of the
// same protocol what the encoder was given, but for what the ledger names and
// what the protocol's wire cannot tell apart. Encoder and decoder were written from
// the same facts by different rules, so that a mistake in one of them shows here.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, c := range goldenCases(t) {
		if c.status != 200 {
			continue
		}
		t.Run(c.name(), func(t *testing.T) {
			t.Parallel()
			for _, face := range registry {
				for _, stream := range []bool{true, false} {
					c.roundTrip(t, face, stream)
				}
			}
		})
	}
}

func (c *goldenCase) roundTrip(t *testing.T, face *Protocol, stream bool) {
	out, a, s := c.answer(t, face, stream, nil)
	if a.PassedThrough() || a.Err() != nil && (!stream || !a.Started()) {
		return
	}
	// What the encoder was given: the same events through the same stages.
	gs := goldenSetup(t, face, stream)
	given := NewFold()
	c.play(t, gs, stages(gs, face, given))
	want := essenceOf(given)
	if face.Name == "cycls" {
		want.cycls()
	}
	fold, again := readAgain(t, face, stream, out)
	got := essenceOf(fold)

	asks := face.Name == "chat" || face.Name == "responses" // for log probabilities
	lost := append(s.Ledger.Names(), again...)
	excuse := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(lost, n) })
	}
	fault := func(what string, got, want any) {
		t.Errorf("%s stream=%v: %s: got\n%v\nwant\n%v\nledger %v", face.Name, stream, what, got, want, lost)
	}
	if got.failed && face.Name == "cycls" && strings.HasPrefix(want.lastCallout, "Stream failed: ") {
		return // an agent's own words that are the server's words for a failure
	}
	if got.failed != want.failed {
		fault("failed", got.failed, want.failed)
		return
	}
	if got.text != want.text && !excuse("replaced_text") {
		fault("text", got.text, want.text)
	}
	if got.refusal != want.refusal {
		fault("refusal", got.refusal, want.refusal)
	}
	if got.reasoning != want.reasoning && !excuse("reasoning") {
		fault("reasoning", got.reasoning, want.reasoning)
	}
	if !excuse("tool_calls", "tool_call") {
		// A call that breaks off in a failure is not told as one by every face.
		if !(want.failed && len(got.calls) < len(want.calls)) && !slices.Equal(got.calls, want.calls) {
			fault("calls", strings.Join(got.calls, "\n"), strings.Join(want.calls, "\n"))
		}
	}
	if len(got.twice) > 0 {
		fault("calls told twice", got.twice, nil)
	}
	if !slices.Equal(got.others, want.others) && !excuse("ran_tool_call") {
		fault("components", strings.Join(got.others, "\n"), strings.Join(want.others, "\n"))
	}
	if got.annotations != want.annotations && !excuse("annotations") {
		fault("annotations", got.annotations, want.annotations)
	}
	if want.failed {
		return
	}
	if face.TakesItems && got.order != want.order { // items have an order
		fault("order", got.order, want.order)
	}
	if got.logprobs != want.logprobs && (asks || got.logprobs != "") && !excuse("logprobs") {
		fault("logprobs", got.logprobs, want.logprobs)
	}
	if got.tier != want.tier && asks {
		fault("tier", got.tier, want.tier)
	}
	if got.reason != want.reason && !excuse("finish_reason") {
		fault("finish", got.reason, want.reason)
	}
	if want.usage.Known() && got.usage.Sum() != want.usage.Sum() && !excuse("usage") {
		fault("usage", got.usage, want.usage)
	}
	if !want.usage.Known() && got.usage.Known() {
		fault("usage out of nothing", got.usage, want.usage)
	}
}

// play decodes the whole case into out.
func (c *goldenCase) play(t *testing.T, s *Setup, out Sink) {
	t.Helper()
	check := &Checker{Next: out}
	d := c.backend.NewDecoder(s)
	if !c.stream {
		d.JSON(c.body, check)
		return
	}
	if raw, ok := c.unframed(d); ok {
		raw.Text(c.body, check)
		d.End(c.cause, check)
		return
	}
	r := sse.Reader{Max: MaxFrame}
	r.Feed(c.body)
	for f, ok := r.Next(); ok && !check.Ended(); f, ok = r.Next() {
		d.Frame(&f, check)
	}
	if f, ok := r.Flush(); ok && c.cause == nil && !check.Ended() {
		d.Frame(&f, check)
	}
	if !check.Ended() {
		d.End(c.cause, check)
	}
}

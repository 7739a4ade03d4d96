package translate

import (
	"bytes"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// chunk is one chat.completion.chunk, or a whole chat.completion, as far as
// anything is made of it. Its slices borrow from the document or from the
// decoder's memory.
type chunk struct {
	id, model []byte
	created   int64
	choices   int // how many there are, -1 if there is no such member
	others    bool
	err       []byte // raw, nil if absent or null
	usage     Usage
	hasUsage  bool
	pad       chunkText // OpenAI's obfuscation, which is of random length
	tier      []byte    // service_tier

	choice
	// Of the choice; kept apart because their memory is reused.
	tools  []toolDelta
	parts  []contentPart
	images [][]byte // raw: addresses, or objects with a url
}

// choice is the first choice of a chunk.
type choice struct {
	index                     int64
	text, reasoning, refusal  chunkText
	logprobs, refusalLogprobs []byte // raw arrays
	annotations               []byte // raw array
	finish                    []byte
	whole                     bool // a message, not a delta
	lost                      bool // content that is no text
	sealed                    bool // reasoning that is encrypted
	audio                     bool
	hasDelta                  bool
}

// chunkText is a decoded string. lead is the low surrogate it began with and
// tail the high one it ended with, if those lacked their partners; each stands
// as U+FFFD in b. If it is one string of the document, doc[from:to] is what
// stands between its quotes.
type chunkText struct {
	b          []byte
	lead, tail uint16
	from, to   int
}

// toolDelta is a piece of a tool call.
type toolDelta struct {
	index    int64
	id, name []byte
	args     chunkText
	custom   bool
}

// parse reads a document into d.c.
func (d *completionDecoder) parse(data []byte) error {
	j, c := &d.dec, &d.c
	tools, parts, images := c.tools[:0], c.parts[:0], c.images[:0]
	*c = chunk{choices: -1, usage: NoUsage(), tools: tools, parts: parts, images: images}
	d.doc = data
	j.Reset(data)
	if !j.Object() {
		if err := j.End(); err != nil {
			return err
		}
		return errNoChoices
	}
	for k, ok := j.Key(); ok; k, ok = j.Key() {
		switch string(k) {
		case "id":
			c.id, _ = j.Str()
		case "model":
			c.model, _ = j.Str()
		case "created":
			c.created, _ = j.Int()
		case "choices":
			c.choices = 0
			if !j.Array() {
				continue
			}
			taken := false
			for j.More() {
				c.choices++
				if taken {
					d.parseOther()
					continue
				}
				d.parseChoice()
				if taken = c.index == 0; !taken {
					d.other(c.index, len(c.finish) > 0)
					c.choice, c.tools, c.parts, c.images = choice{}, c.tools[:0], c.parts[:0], c.images[:0]
				}
			}
		case "usage":
			d.parseUsage()
		case "error":
			c.err = d.truthy(c.err)
		case "obfuscation":
			c.pad = d.string()
		case "service_tier":
			c.tier, _ = j.Str()
		}
	}
	return j.End()
}

// truthy consumes a value and returns its bytes unless it is null or false.
func (d *completionDecoder) truthy(old []byte) []byte {
	raw := d.dec.Raw()
	if len(raw) == 0 || raw[0] == 'n' || raw[0] == 'f' {
		return old
	}
	return raw
}

func (d *completionDecoder) parseChoice() {
	j, c := &d.dec, &d.c
	if !j.Object() {
		return
	}
	for k, ok := j.Key(); ok; k, ok = j.Key() {
		switch string(k) {
		case "index":
			c.index, _ = j.Int()
		case "delta":
			d.parseMessage(false)
		case "message": // whole answers, and the last chunk of some servers
			d.parseMessage(true)
		case "finish_reason":
			c.finish, _ = j.Str()
		case "logprobs":
			if !j.Object() {
				continue
			}
			for k, ok := j.Key(); ok; k, ok = j.Key() {
				switch string(k) {
				case "content":
					c.logprobs = d.array()
				case "refusal":
					c.refusalLogprobs = d.array()
				}
			}
		case "usage": // Moonshot puts it here
			d.parseUsage()
		case "error": // OpenRouter's
			c.err = d.truthy(c.err)
		}
	}
}

// parseOther reads of a choice that is not answered from whether it has ended.
func (d *completionDecoder) parseOther() {
	j := &d.dec
	if !j.Object() {
		return
	}
	var index int64
	var finish []byte
	for k, ok := j.Key(); ok; k, ok = j.Key() {
		switch string(k) {
		case "index":
			index, _ = j.Int()
		case "finish_reason":
			finish, _ = j.Str()
		}
	}
	d.other(index, len(finish) > 0)
}

// other notes the state of another choice than the first: a passed-through
// stream of several is whole when all of them have ended.
func (d *completionDecoder) other(index int64, ended bool) {
	d.c.others = true
	if index < 0 || index >= int64(len(d.others)) {
		return
	}
	d.others[index] = choiceOpen
	if ended {
		d.others[index] = choiceEnded
	}
}

// The states of a choice.
const (
	choiceOpen  = 1
	choiceEnded = 2
)

// array consumes a value and returns its bytes if it is an array that holds
// something.
func (d *completionDecoder) array() []byte {
	isArray := d.dec.Kind() == jsonx.Array
	raw := d.dec.Raw()
	if !isArray || len(raw) == 2 {
		return nil
	}
	return raw
}

// parseMessage reads a delta or a message. An empty one that stands beside the
// other says nothing.
func (d *completionDecoder) parseMessage(isWhole bool) {
	j, c := &d.dec, &d.c
	if isWhole && c.hasDelta || !j.Object() {
		return
	}
	var reasoning chunkText
	any := false
	d.detailed = d.detailed[:0]
	for k, ok := j.Key(); ok; k, ok = j.Key() {
		switch string(k) {
		case "content":
			d.parseContent()
			any = any || len(c.text.b) > 0 || len(c.parts) > 0
		case "reasoning_content":
			if t := d.thinking(); len(t.b) > 0 {
				c.reasoning, any = t, true
			}
		case "reasoning", "reasoning_text":
			if t := d.thinking(); len(t.b) > 0 {
				reasoning, any = t, true
			}
		case "reasoning_details": // OpenRouter's, beside reasoning or alone
			d.parseDetails()
		case "refusal":
			if t := d.string(); len(t.b) > 0 {
				c.refusal, any = t, true
			}
		case "annotations":
			c.annotations = d.array()
			any = any || c.annotations != nil
		case "tool_calls":
			if !j.Array() {
				continue
			}
			for j.More() {
				d.parseTool()
				any = true
			}
		case "function_call":
			if j.Kind() == jsonx.Object {
				c.tools = append(c.tools, toolDelta{index: functionCallIndex})
				d.parseFunction(&c.tools[len(c.tools)-1])
				any = true
			}
		case "images": // OpenRouter's and Gemini's
			if !j.Array() {
				continue
			}
			for j.More() {
				c.images, any = append(c.images, j.Raw()), true
			}
		case "audio":
			c.audio = j.Kind() == jsonx.Object
		}
	}
	// Servers in transition write their reasoning under both names.
	if len(c.reasoning.b) == 0 {
		c.reasoning = reasoning
	} else if len(reasoning.b) > 0 {
		c.reasoning.to = 0
	}
	if len(c.reasoning.b) == 0 && len(d.detailed) > 0 {
		c.reasoning, any = chunkText{b: d.detailed}, true
	}
	if any {
		c.whole, c.hasDelta = isWhole, !isWhole
	}
}

// thinking consumes reasoning: a string, or an object that holds one.
func (d *completionDecoder) thinking() chunkText {
	j := &d.dec
	if j.Kind() != jsonx.Object {
		return d.string()
	}
	var t chunkText
	j.Object()
	for k, ok := j.Key(); ok; k, ok = j.Key() {
		switch string(k) {
		case "content", "text", "summary":
			if s := d.string(); len(t.b) == 0 {
				t = s
			}
		}
	}
	return t
}

// parseDetails gathers the texts of reasoning_details.
func (d *completionDecoder) parseDetails() {
	j := &d.dec
	if !j.Array() {
		return
	}
	for j.More() {
		if !j.Object() {
			continue
		}
		for k, ok := j.Key(); ok; k, ok = j.Key() {
			switch string(k) {
			case "text", "summary":
				s, _ := j.Str()
				d.detailed = append(d.detailed, s...)
			case "data":
				s, _ := j.Str()
				d.c.sealed = d.c.sealed || len(s) > 0
			}
		}
	}
}

// string consumes a value and returns its text if it is a string.
func (d *completionDecoder) string() chunkText {
	if d.dec.Kind() != jsonx.String {
		d.dec.Skip()
		return chunkText{}
	}
	from := d.dec.Offset()
	s, _ := d.dec.Str()
	t := chunkText{b: s, from: from + 1, to: d.dec.Offset() - 1}
	if len(s) >= 3 && (s[0] == 0xef || s[len(s)-1] == 0xbd) {
		t.surrogates(d.doc[from:d.dec.Offset()])
	}
	return t
}

var replacement = []byte("\uFFFD")

// surrogates looks at the text as it was written for half a pair at its ends.
func (t *chunkText) surrogates(raw []byte) {
	if len(raw) < 8 {
		return
	}
	if bytes.HasPrefix(t.b, replacement) {
		if u, ok := jsonx.EscapedUnit(raw, 1); ok && u >= 0xdc00 && u < 0xe000 {
			t.lead = uint16(u)
		}
	}
	if bytes.HasSuffix(t.b, replacement) {
		if u, ok := jsonx.EscapedUnit(raw, len(raw)-7); ok && u >= 0xd800 && u < 0xdc00 {
			t.tail = uint16(u)
		}
	}
}

func (d *completionDecoder) parseTool() {
	j, c := &d.dec, &d.c
	c.tools = append(c.tools, toolDelta{index: -1})
	t := &c.tools[len(c.tools)-1]
	if !j.Object() {
		return
	}
	for k, ok := j.Key(); ok; k, ok = j.Key() {
		switch string(k) {
		case "index":
			if i, ok := j.Int(); ok && i >= 0 {
				t.index = i
			}
		case "id":
			t.id, _ = j.Str()
		case "function":
			d.parseFunction(t)
		case "custom":
			t.custom = j.Kind() == jsonx.Object
			d.parseFunction(t)
		}
	}
}

// parseFunction reads {name, arguments} or, of a custom tool, {name, input}.
func (d *completionDecoder) parseFunction(t *toolDelta) {
	j := &d.dec
	if !j.Object() {
		return
	}
	for k, ok := j.Key(); ok; k, ok = j.Key() {
		switch string(k) {
		case "name":
			t.name, _ = j.Str()
		case "arguments", "input":
			switch j.Kind() {
			case jsonx.Object, jsonx.Array: // some servers forget to write it as a string
				t.args = chunkText{b: j.Raw()}
			default:
				t.args = d.string()
			}
		}
	}
}

// parseUsage reads token counts under their names here, and those that servers
// of several protocols mix in.
func (d *completionDecoder) parseUsage() {
	j, c := &d.dec, &d.c
	if !j.Object() {
		return
	}
	u := NoUsage()
	for k, ok := j.Key(); ok; k, ok = j.Key() {
		switch string(k) {
		case "prompt_tokens", "input_tokens":
			d.count(&u.Input)
		case "completion_tokens", "output_tokens":
			d.count(&u.Output)
		case "total_tokens":
			d.count(&u.Total)
		case "cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens": // Moonshot, DeepSeek, gateways in front of Anthropic
			d.count(&u.Cached)
		case "cache_creation_input_tokens": // those gateways
			d.count(&u.Written)
		case "prompt_tokens_details", "input_tokens_details":
			d.inputDetails(&u)
		case "completion_tokens_details", "output_tokens_details":
			d.outputDetails(&u)
		}
	}
	c.usage.Merge(u)
	c.hasUsage = c.usage.Known()
}

func (d *completionDecoder) count(to *int64) {
	if n, ok := d.dec.Int(); ok && n >= 0 {
		*to = n
	}
}

func (d *completionDecoder) inputDetails(u *Usage) {
	j := &d.dec
	if !j.Object() {
		return
	}
	for k, ok := j.Key(); ok; k, ok = j.Key() {
		switch string(k) {
		case "cached_tokens":
			d.count(&u.Cached)
		case "cache_write_tokens":
			d.count(&u.Written)
		case "audio_tokens":
			d.count(&u.AudioIn)
		}
	}
}

func (d *completionDecoder) outputDetails(u *Usage) {
	j := &d.dec
	if !j.Object() {
		return
	}
	for k, ok := j.Key(); ok; k, ok = j.Key() {
		switch string(k) {
		case "reasoning_tokens":
			d.count(&u.Reasoning)
		case "audio_tokens":
			d.count(&u.AudioOut)
		case "accepted_prediction_tokens":
			d.count(&u.Accepted)
		case "rejected_prediction_tokens":
			d.count(&u.Rejected)
		}
	}
}

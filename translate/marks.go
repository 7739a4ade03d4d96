package translate

// orphan is the error that a tool's result answers a call that the request does
// not hold: nobody could tell what it is the result of. Nothing is kept here
// that it could refer to.
func (r *Request) orphan() *Error {
	var calls map[string]bool
	for i := range r.Turns {
		t := &r.Turns[i]
		for j := range t.Blocks {
			b := &t.Blocks[j]
			switch {
			case b.Type == BlockToolCall:
				if calls == nil {
					calls = make(map[string]bool)
				}
				calls[b.CallID] = true
			case b.Type == BlockToolResult && !b.Ran && b.CallID != "" && !calls[b.CallID]:
				return Invalid(b.Path, "'%s' answers a tool call that the request does not hold: send the whole conversation.", b.Path)
			}
		}
	}
	return nil
}

// dropMarks notes what the conversation is marked with beside its content.
func (r *Request) dropMarks() {
	for i := range r.Turns {
		t := &r.Turns[i]
		if t.Phase != PhaseNone {
			r.Ledger.Drop(t.Path.In("phase"))
		}
		for j := range t.Blocks {
			r.dropBlockMarks(t, &t.Blocks[j])
		}
	}
}

func (r *Request) dropBlockMarks(t *Turn, b *Block) {
	if len(b.Annotations) > 0 {
		r.Ledger.Drop(r.annotationsAt(b))
	}
	r.dropOpaque(b)
	r.dropOutputMarks(t, b)
	if b.CacheBreakpoint != "" {
		r.Ledger.Drop(b.Path.In("prompt_cache_breakpoint"))
	}
	for i := range b.Parts {
		r.dropBlockMarks(t, &b.Parts[i])
	}
}

// annotationsAt is the path of a text's annotations in the client's protocol.
func (r *Request) annotationsAt(b *Block) Path {
	if r.Face != nil && r.Face.CitesBeside {
		return AtIndex(b.Path.Base, b.Path.I).In("annotations")
	}
	return b.Path.In("annotations")
}

// dropOpaque notes what only the backend that gave it could read. It belongs to
// the item, of which the block is a part.
func (r *Request) dropOpaque(b *Block) {
	if b.Opaque != "" {
		r.Ledger.Drop(AtIndex(b.Path.Base, b.Path.I).In("encrypted_content"))
	}
}

// dropOutputMarks notes what only an answer has a place for.
func (r *Request) dropOutputMarks(t *Turn, b *Block) {
	if b.Logprobs != "" {
		r.Ledger.Drop(b.Path.In("logprobs"))
	}
	if b.Status != StatusComplete && t.Role == RoleAssistant && !b.Ran {
		at := b.Path
		if b.Type != BlockToolCall {
			at = t.Path
		}
		r.Ledger.Drop(at.In("status"))
	}
}

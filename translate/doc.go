// Package translate turns the bytes of one agent protocol into the bytes of
// another. It does no I/O.
//
// Six protocols meet in one neutral model. Each protocol is one file that
// knows only itself and the model, in both of its roles:
//
//	client bytes ─ Face.DecodeRequest ─▶ Request ─ Backend.EncodeRequest ─▶ backend bytes
//	client bytes ◀─ Encoder ── Event … ◀── Decoder ── backend bytes
//
// The neutral answer is a stream of block events (see Event). A plain JSON
// answer is the same events: decoding a body emits them, and a Fold of them is
// what a JSON answer is written from, so there is no second path to keep
// right.
//
// # Ownership
//
// Strings and slices of a Request borrow from its Body, which must not change
// until the answer is finished. Events borrow from the read buffer or from the
// decoder's scratch and are valid until the Sink returns. Encoders append to a
// buffer that the caller owns.
package translate

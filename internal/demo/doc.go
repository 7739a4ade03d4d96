// Package demo holds small agents, one for each backend protocol, that are part
// of the program: the first minutes with the proxy need nothing else. The proxy
// reaches them over HTTP, like any other backend, on listeners in memory.
//
// Each writes its protocol by hand, as the protocol's own server does, and not
// with the translator, so that they are an independent check of it.
//
// What an agent says depends on the last message it is sent:
//
//   - a message with the word "weather", with a tool get_weather on offer, makes
//     it call the tool; the tool's result makes it answer with that result;
//   - a message that begins with "fail" makes it fail in the middle of its
//     answer; "refuse" makes it answer 429 before the first byte;
//   - a message that begins with "what did I say" makes it tell what the user and the
//     tools had said before, if its protocol told it;
//   - anything else makes it show what its protocol can carry.
package demo

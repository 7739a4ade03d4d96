// The official Go client of OpenAI: Chat Completions and Responses.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/responses"
	"github.com/openai/openai-go/v3/shared"
)

const (
	question = "What is the weather in Paris?"
	result   = `{"result":4711,"sky":"clear"}`
	before   = "I will try, but "
)

var (
	arguments = map[string]any{"city": "Paris", "unit": "celsius"}
	failing   = []string{"cycls-broken", "chat", "responses", "swarms", "cycls"}
	withTools = []string{"chat", "responses", "swarms"}
	weather   = map[string]any{
		"type":                 "object",
		"properties":           map[string]any{"city": map[string]any{"type": "string"}, "unit": map[string]any{"type": "string"}},
		"required":             []string{"city", "unit"},
		"additionalProperties": false,
	}
)

type suite struct {
	*expected
	names  []string // of all agents, in order
	client openai.Client
	tests  []test
}

func (s *suite) test(name string, fn func(t)) { s.tests = append(s.tests, test{name, fn}) }

// each adds a test for each agent.
func (s *suite) each(name string, agents []string, fn func(t, string)) {
	for _, a := range agents {
		s.test(name+": "+a, func(x t) { fn(x, a) })
	}
}

func main() {
	clients := flag.String("clients", "clients", "the folder that holds expected.json")
	golden := flag.String("golden", "", "read what the faces write in this folder, instead of asking the proxy")
	knocks := flag.Bool("door", false, "ask the proxy that checks keys and counts")
	faulty := flag.String("fault", "", "ask the proxy at this address for a stream that breaks off")
	spoken := flag.String("conversation", "", "hold a conversation with this agent, of the proxy at -url with the key -key")
	url, key := flag.String("url", "", ""), flag.String("key", "", "")
	flag.Parse()
	if *spoken != "" {
		if err := conversation(*url, *key, *spoken); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if *faulty != "" {
		fault(*faulty)
		return
	}
	if *knocks {
		d := newDoor()
		d.keys()
		d.limits()
		if err := runAll("door-go", d.tests); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if *golden != "" {
		tests, err := goldenTests(*golden)
		if err == nil {
			err = runAll("types-go", tests)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	e, err := readExpected(*clients)
	var names []string
	if err == nil {
		names, err = readNames(*clients)
	}
	if err == nil {
		s := &suite{expected: e, names: names, client: openai.NewClient(
			option.WithBaseURL(proxyURL+"/v1"), option.WithAPIKey("sk-interop"), option.WithMaxRetries(0))}
		s.chat()
		s.responses()
		s.tools()
		s.failures()
		s.time()
		s.hard()
		err = runAll("openai-go", s.tests)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (s *suite) agents() []string { return slices.Sorted(maps.Keys(s.Agents)) }

// modelOf is the model that an answer names: the client's own word, but what
// the agent says where the face passes it through.
func modelOf(face, agent string) string {
	if face == agent {
		return "demo-model"
	}
	return agent
}

func ask(agent, prompt string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{Model: agent, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(prompt)}}
}

func askResponses(agent, prompt string) responses.ResponseNewParams {
	return responses.ResponseNewParams{Model: agent, Input: responses.ResponseNewParamsInputUnion{OfString: openai.String(prompt)}}
}

// reasoning is the text under a key that the SDK does not know.
func reasoning(raw string) string {
	var d struct {
		ReasoningContent string `json:"reasoning_content"`
	}
	_ = json.Unmarshal([]byte(raw), &d)
	return d.ReasoningContent
}

func (s *suite) chat() {
	ctx := context.Background()
	s.each("chat, stream with usage", s.agents(), func(x t, agent string) {
		want := s.Agents[agent]
		p := ask(agent, s.Prompt)
		p.StreamOptions.IncludeUsage = openai.Bool(true)
		stream := s.client.Chat.Completions.NewStreaming(ctx, p)
		acc := openai.ChatCompletionAccumulator{}
		text, thought, role := "", "", ""
		for stream.Next() {
			c := stream.Current()
			x.check(acc.AddChunk(c), "the accumulator refuses %s", c.RawJSON())
			x.equal(c.Model, modelOf("chat", agent))
			if len(c.Choices) == 0 {
				continue
			}
			role += string(c.Choices[0].Delta.Role)
			text += c.Choices[0].Delta.Content
			thought += reasoning(c.Choices[0].Delta.RawJSON())
		}
		x.ok(stream.Err())
		x.equal(role, "assistant")
		x.equal(text, want.Text)
		x.equal(thought, want.Reasoning)
		x.equal(len(acc.Choices), 1)
		x.equal(acc.Choices[0].Message.Content, want.Text)
		x.equal(acc.Choices[0].FinishReason, "stop")
		x.check(!want.Usage || acc.Usage.TotalTokens > 0, "usage %v", acc.Usage)
		x.equal(acc.Usage.TotalTokens, acc.Usage.PromptTokens+acc.Usage.CompletionTokens)
	})
	s.each("chat, stream", s.agents(), func(x t, agent string) {
		stream := s.client.Chat.Completions.NewStreaming(ctx, ask(agent, s.Prompt))
		text, finish := "", ""
		for stream.Next() {
			c := stream.Current()
			x.check(!c.JSON.Usage.Valid(), "usage that nobody asked for: %s", c.RawJSON())
			x.equal(len(c.Choices), 1)
			x.equal(finish, "")
			text, finish = text+c.Choices[0].Delta.Content, c.Choices[0].FinishReason
		}
		x.ok(stream.Err())
		x.equal(text, s.Agents[agent].Text)
		x.equal(finish, "stop")
	})
	s.each("chat, JSON", s.agents(), func(x t, agent string) {
		want := s.Agents[agent]
		var r *http.Response
		c, err := s.client.Chat.Completions.New(ctx, ask(agent, s.Prompt), option.WithResponseInto(&r))
		x.ok(err)
		x.check(r.Header.Get("X-Request-Id") != "", "no x-request-id")
		x.equal(r.Header.Get("Dragoman-Agent"), agent)
		x.equal(c.Model, modelOf("chat", agent))
		x.equal(len(c.Choices), 1)
		x.equal(c.Choices[0].Message.Content, want.Text)
		x.equal(string(c.Choices[0].Message.Role), "assistant")
		x.equal(reasoning(c.Choices[0].Message.RawJSON()), want.Reasoning)
		x.equal(c.Choices[0].FinishReason, "stop")
		x.check(!want.Usage || c.Usage.TotalTokens > 0, "usage %v", c.Usage)
	})
	s.test("models list every agent", func(x t) {
		pager := s.client.Models.ListAutoPaging(ctx)
		var ids []string
		for pager.Next() {
			ids = append(ids, pager.Current().ID)
		}
		x.ok(pager.Err())
		slices.Sort(ids)
		x.equal(ids, s.names)
	})
}

func (s *suite) responseIs(x t, r *responses.Response, agent string) {
	want := s.Agents[agent]
	x.equal(string(r.Status), "completed")
	x.equal(r.Model, modelOf("responses", agent))
	x.equal(r.OutputText(), want.Text)
	thought := ""
	for _, o := range r.Output {
		for _, part := range o.Summary {
			thought += part.Text
		}
	}
	x.equal(thought, want.Reasoning)
	if want.Usage {
		x.check(r.Usage.InputTokens > 0 && r.Usage.OutputTokens > 0, "usage %v", r.Usage)
		x.equal(r.Usage.TotalTokens, r.Usage.InputTokens+r.Usage.OutputTokens)
	}
}

func (s *suite) responses() {
	ctx := context.Background()
	s.each("responses, stream", s.agents(), func(x t, agent string) {
		stream := s.client.Responses.NewStreaming(ctx, askResponses(agent, s.Prompt))
		text, seq := "", int64(0)
		var final *responses.Response
		for stream.Next() {
			e := stream.Current()
			x.equal(e.SequenceNumber, seq)
			seq++
			x.check(final == nil, "%s after the terminal event", e.Type)
			switch v := e.AsAny().(type) {
			case responses.ResponseTextDeltaEvent:
				text += v.Delta
			case responses.ResponseCompletedEvent:
				final = &v.Response
			case responses.ResponseFailedEvent, responses.ResponseIncompleteEvent, responses.ResponseErrorEvent:
				x.fatal("%s", e.RawJSON())
			}
		}
		x.ok(stream.Err())
		x.check(final != nil, "no response.completed")
		x.equal(text, s.Agents[agent].Text)
		s.responseIs(x, final, agent)
	})
	s.each("responses, JSON", s.agents(), func(x t, agent string) {
		var h *http.Response
		r, err := s.client.Responses.New(ctx, askResponses(agent, s.Prompt), option.WithResponseInto(&h))
		x.ok(err)
		x.check(h.Header.Get("X-Request-Id") != "", "no x-request-id")
		s.responseIs(x, r, agent)
	})
}

func answered(x t, agent, text string) {
	if agent == "swarms" { // which has no place for a result but the task
		x.check(strings.Contains(text, "4711"), "%s", text)
		return
	}
	x.equal(text, "The tool says: "+result)
}

func called(x t, name, args string) {
	x.equal(name, "get_weather")
	var got map[string]any
	x.ok(json.Unmarshal([]byte(args), &got))
	x.equal(got, arguments)
}

func (s *suite) tools() {
	ctx := context.Background()
	chat := func(x t, agent string, complete func(openai.ChatCompletionNewParams) openai.ChatCompletionChoice) {
		p := ask(agent, question)
		p.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{
			Name: "get_weather", Description: openai.String("The weather of a city"), Parameters: weather})}
		c := complete(p)
		x.equal(c.FinishReason, "tool_calls")
		x.equal(len(c.Message.ToolCalls), 1)
		call := c.Message.ToolCalls[0]
		called(x, call.Function.Name, call.Function.Arguments)
		p.Messages = append(p.Messages, c.Message.ToParam(), openai.ToolMessage(result, call.ID))
		c = complete(p)
		x.equal(c.FinishReason, "stop")
		x.equal(len(c.Message.ToolCalls), 0)
		answered(x, agent, c.Message.Content)
	}
	s.each("chat, tool round trip, stream", withTools, func(x t, agent string) {
		chat(x, agent, func(p openai.ChatCompletionNewParams) openai.ChatCompletionChoice {
			stream := s.client.Chat.Completions.NewStreaming(ctx, p)
			acc := openai.ChatCompletionAccumulator{}
			for stream.Next() {
				x.check(acc.AddChunk(stream.Current()), "the accumulator refuses %s", stream.Current().RawJSON())
			}
			x.ok(stream.Err())
			x.equal(len(acc.Choices), 1)
			return acc.Choices[0]
		})
	})
	s.each("chat, tool round trip, JSON", withTools, func(x t, agent string) {
		chat(x, agent, func(p openai.ChatCompletionNewParams) openai.ChatCompletionChoice {
			c, err := s.client.Chat.Completions.New(ctx, p)
			x.ok(err)
			return c.Choices[0]
		})
	})

	respond := func(x t, agent string, complete func(responses.ResponseNewParams) *responses.Response) {
		items := responses.ResponseInputParam{responses.ResponseInputItemParamOfMessage(question, responses.EasyInputMessageRoleUser)}
		p := responses.ResponseNewParams{
			Model: agent, Store: openai.Bool(false),
			Input: responses.ResponseNewParamsInputUnion{OfInputItemList: items},
			Tools: []responses.ToolUnionParam{{OfFunction: &responses.FunctionToolParam{
				Name: "get_weather", Parameters: weather, Strict: openai.Bool(true)}}},
		}
		r := complete(p)
		var calls []responses.ResponseOutputItemUnion
		for _, o := range r.Output {
			if o.Type == "function_call" {
				calls = append(calls, o)
			}
		}
		x.equal(len(calls), 1)
		call := calls[0].AsFunctionCall()
		called(x, call.Name, call.Arguments)
		output := responses.ResponseInputItemParamOfFunctionCallOutput(result)
		output.OfFunctionCallOutput.CallID = openai.String(call.CallID)
		p.Input.OfInputItemList = append(items, responses.ResponseInputItemParamOfFunctionCall(call.Arguments, call.CallID, call.Name), output)
		r = complete(p)
		for _, o := range r.Output {
			x.check(o.Type != "function_call", "the call again")
		}
		answered(x, agent, r.OutputText())
	}
	s.each("responses, tool round trip, stream", withTools, func(x t, agent string) {
		respond(x, agent, func(p responses.ResponseNewParams) *responses.Response {
			stream := s.client.Responses.NewStreaming(ctx, p)
			var final *responses.Response
			args, whole := "", ""
			for stream.Next() {
				switch v := stream.Current().AsAny().(type) {
				case responses.ResponseFunctionCallArgumentsDeltaEvent:
					args += v.Delta
				case responses.ResponseFunctionCallArgumentsDoneEvent:
					whole += v.Arguments
				case responses.ResponseCompletedEvent:
					final = &v.Response
				}
			}
			x.ok(stream.Err())
			x.check(final != nil, "no response.completed")
			x.equal(args, whole)
			return final
		})
	})
	s.each("responses, tool round trip, JSON", withTools, func(x t, agent string) {
		respond(x, agent, func(p responses.ResponseNewParams) *responses.Response {
			r, err := s.client.Responses.New(ctx, p)
			x.ok(err)
			return r
		})
	})
}

// apiError is the SDK's error for a status other than success.
func apiError(x t, err error, status int) *openai.Error {
	var e *openai.Error
	x.check(errors.As(err, &e), "%T: %v", err, err)
	x.equal(e.StatusCode, status)
	x.check(!strings.Contains(e.Message, "secret"), "%s", e.Message)
	return e
}

func (s *suite) failures() {
	ctx := context.Background()
	// prompt is one at which an agent fails, and what to do when its words were
	// read.
	prompt := func(x t, agent string) (string, func()) {
		if agent != "cycls-broken" {
			return "fail, please", func() {}
		}
		name := fresh()
		return "gate " + name, func() { x.release(name) }
	}
	s.each("chat, stream that fails in its middle", failing, func(x t, agent string) {
		p, goOn := prompt(x, agent)
		stream := s.client.Chat.Completions.NewStreaming(ctx, ask(agent, p))
		text := ""
		for stream.Next() {
			c := stream.Current()
			x.equal(c.Choices[0].FinishReason, "")
			text += c.Choices[0].Delta.Content
			if text == before {
				goOn()
			}
		}
		x.equal(text, before)
		x.check(stream.Err() != nil, "a failed stream ended without an error")
		x.check(!strings.Contains(stream.Err().Error(), "secret"), "%v", stream.Err())
	})
	s.each("responses, stream that fails in its middle", failing, func(x t, agent string) {
		p, goOn := prompt(x, agent)
		stream := s.client.Responses.NewStreaming(ctx, askResponses(agent, p))
		text := ""
		for stream.Next() {
			switch v := stream.Current().AsAny().(type) {
			case responses.ResponseTextDeltaEvent:
				if text += v.Delta; text == before {
					goOn()
				}
			case responses.ResponseCompletedEvent:
				x.fatal("completed: %s", v.RawJSON())
			}
		}
		x.equal(text, before)
		x.check(stream.Err() != nil, "a failed stream ended without an error")
	})
	s.each("JSON of an agent that fails is a 502", append([]string{"ticos", "cognipeer"}, failing...), func(x t, agent string) {
		_, err := s.client.Chat.Completions.New(ctx, ask(agent, "fail, please"))
		x.equal(apiError(x, err, 502).Type, "server_error")
		_, err = s.client.Responses.New(ctx, askResponses(agent, "fail, please"))
		x.equal(apiError(x, err, 502).Type, "server_error")
	})
	s.test("an agent that has run is not run again", func(x t) {
		p := "count " + fresh()
		_, err := s.client.Chat.Completions.New(ctx, ask("cycls-broken", p), option.WithMaxRetries(2))
		apiError(x, err, 502)
		x.equal(x.runs(p), 1)
	})
	s.test("an unknown model is a 404 that names what exists", func(x t) {
		_, err := s.client.Chat.Completions.New(ctx, ask("nobody", s.Prompt))
		e := apiError(x, err, 404)
		x.equal(e.Code, "model_not_found")
		x.check(strings.Contains(e.Message, "cycls-real"), "%s", e.Message)
		stream := s.client.Responses.NewStreaming(ctx, askResponses("nobody", s.Prompt))
		x.check(!stream.Next(), "an event")
		apiError(x, stream.Err(), 404)
	})
	s.test("an agent that nobody can reach is a 502", func(x t) {
		_, err := s.client.Chat.Completions.New(ctx, ask("dead", s.Prompt))
		apiError(x, err, 502)
		stream := s.client.Chat.Completions.NewStreaming(ctx, ask("dead", s.Prompt))
		x.check(!stream.Next(), "a chunk")
		apiError(x, stream.Err(), 502)
	})
	s.each("an agent that refuses is a 429 with its wait", []string{"chat", "responses", "swarms", "cycls"}, func(x t, agent string) {
		_, err := s.client.Chat.Completions.New(ctx, ask(agent, "refuse"))
		e := apiError(x, err, 429)
		x.equal(e.Response.Header.Get("Retry-After"), "7")
		_, err = s.client.Responses.New(ctx, askResponses(agent, "refuse"))
		apiError(x, err, 429)
	})
	s.test("more than one answer from cycls-real is a 400 that names n", func(x t) {
		p := ask("cycls-real", s.Prompt)
		p.N = param.NewOpt(int64(2))
		_, err := s.client.Chat.Completions.New(ctx, p)
		x.equal(apiError(x, err, 400).Param, "n")
	})
}

func (s *suite) time() {
	ctx := context.Background()
	s.test("chat: the first words come before the agent has ended", func(x t) {
		name, text := fresh(), ""
		stream := s.client.Chat.Completions.NewStreaming(ctx, ask("cycls-real", "gate "+name))
		for stream.Next() {
			if text += stream.Current().Choices[0].Delta.Content; text == "first " {
				x.release(name)
			}
		}
		x.ok(stream.Err())
		x.equal(text, "first second")
	})
	s.test("responses: the first words come before the agent has ended", func(x t) {
		name, text := fresh(), ""
		stream := s.client.Responses.NewStreaming(ctx, askResponses("cycls-real", "gate "+name))
		for stream.Next() {
			if v, ok := stream.Current().AsAny().(responses.ResponseTextDeltaEvent); ok {
				if text += v.Delta; text == "first " {
					x.release(name)
				}
			}
		}
		x.ok(stream.Err())
		x.equal(text, "first second")
	})
	s.test("a client that leaves ends the agent", func(x t) {
		name := fresh()
		leaving, leave := context.WithCancel(ctx)
		defer leave()
		stream := s.client.Chat.Completions.NewStreaming(leaving, ask("cycls-real", "hold "+name))
		for stream.Next() {
			if stream.Current().Choices[0].Delta.Content != "" {
				leave()
			}
		}
		x.closed(name)
	})
}

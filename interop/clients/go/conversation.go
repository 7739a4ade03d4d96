package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/responses"
)

// conversation holds one of five turns with a tool call. Before the turns that its caller wants to follow a new start of the
// proxy it says restart and waits for a line.
func conversation(url, key, model string) error {
	client := openai.NewClient(option.WithBaseURL(url+"/v1"), option.WithAPIKey(key), option.WithMaxRetries(0))
	ctx := context.Background()
	in := bufio.NewReader(os.Stdin)
	restart := func() {
		fmt.Println("restart")
		_, _ = in.ReadString('\n')
	}
	heard := func(text string, words ...string) error {
		for _, w := range words {
			if !strings.Contains(text, w) {
				return fmt.Errorf("%q does not tell of %q", text, w)
			}
		}
		return nil
	}
	say := func(model, previous string, input responses.ResponseNewParamsInputUnion, tools []responses.ToolUnionParam) (*responses.Response, error) {
		asked := responses.ResponseNewParams{Model: model, Input: input, Tools: tools}
		if previous != "" {
			asked.PreviousResponseID = param.NewOpt(previous)
		}
		return client.Responses.New(ctx, asked)
	}
	text := func(s string) responses.ResponseNewParamsInputUnion {
		return responses.ResponseNewParamsInputUnion{OfString: param.NewOpt(s)}
	}
	tools := []responses.ToolUnionParam{{OfFunction: &responses.FunctionToolParam{
		Name: "get_weather", Parameters: map[string]any{"type": "object", "properties": map[string]any{"city": map[string]any{"type": "string"}}},
	}}}
	one, err := say(model, "", text("My name is Ann."), nil)
	if err != nil {
		return err
	}
	stream := client.Responses.NewStreaming(ctx, responses.ResponseNewParams{Model: model, Input: text("What did I say?"), PreviousResponseID: param.NewOpt(one.ID)})
	var two responses.Response
	for stream.Next() {
		if e := stream.Current(); e.Type == "response.completed" {
			two = e.Response
		}
	}
	if err := stream.Err(); err != nil {
		return err
	}
	if err := heard(two.OutputText(), "My name is Ann."); err != nil {
		return err
	}
	restart()
	three, err := say("swarms", two.ID, text("What is the weather in Paris?"), tools)
	if err != nil {
		return err
	}
	call := ""
	for _, o := range three.Output {
		if o.Type == "function_call" {
			call = o.CallID
		}
	}
	if call == "" {
		return fmt.Errorf("no call: %s", three.RawJSON())
	}
	restart()
	four, err := say("swarms", three.ID, responses.ResponseNewParamsInputUnion{OfInputItemList: responses.ResponseInputParam{
		answerTo(call, "The result is rain, 7 degrees."),
	}}, tools)
	if err != nil {
		return err
	}
	five, err := say(model, four.ID, text("What did I say?"), nil)
	if err != nil {
		return err
	}
	if err := heard(five.OutputText(), "My name is Ann.", "The result is rain, 7 degrees."); err != nil {
		return err
	}
	again, err := client.Responses.Get(ctx, five.ID, responses.ResponseGetParams{})
	if err != nil {
		return err
	}
	if again.OutputText() != five.OutputText() {
		return fmt.Errorf("%q is not %q", again.OutputText(), five.OutputText())
	}
	fmt.Println("done")
	return nil
}

func answerTo(call, output string) responses.ResponseInputItemUnionParam {
	item := responses.ResponseInputItemParamOfFunctionCallOutput(output)
	item.OfFunctionCallOutput.CallID = param.NewOpt(call)
	return item
}

package translate

var responsesProtocol = Protocol{Name: "responses"}

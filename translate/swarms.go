package translate

var swarmsProtocol = Protocol{Name: "swarms"}

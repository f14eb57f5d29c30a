package sallyport.repository["acme/tools"]

allow contains {"rule": "own-mirror"} if input.target.host == "mirror.tools.example"

module sample.example/app

go 1.21

require left.example/wall v1.0.0

import ArgumentParser

@main
struct Slipstream: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "slipstream",
        abstract: "Reading from PostgreSQL replicas without fear."
    )
}

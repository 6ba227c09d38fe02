// swift-tools-version: 6.2
import PackageDescription

/// Settings every target of ours shares. Warnings are errors only in our own targets: SwiftPM never applies these to
/// dependencies.
let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),  // SE-0335
    .enableUpcomingFeature("MemberImportVisibility"),  // SE-0444
    .enableUpcomingFeature("InternalImportsByDefault"),  // SE-0409
    .treatAllWarnings(as: .error),
]

/// The product is released with Swift's libraries inside. Only its link says so: SwiftPM's `--static-swift-stdlib`
/// compiles everything against the static libraries, among which there is no `Testing`, so that the tests would need a
/// second compilation of everything. The libraries named are those that only the modules of the static Foundation name
/// by themselves.
let staticRuntime: LinkerSetting = .unsafeFlags(
    [
        "-static-stdlib", "-lFoundationInternationalization", "-lCoreFoundation", "-l_FoundationICU",
        "-l_FoundationCollections", "-l_FoundationCShims",
    ],
    .when(platforms: [.linux], configuration: .release)
)

/// A sanitizer sees what other libraries allocate only through symbols that a static link hides: `script/sanitize`.
let isSanitized = Context.environment["SLIPSTREAM_SANITIZE"] != nil

/// For the libraries whose tests import them with `@testable`, which a release build has to be told. None of them is on
/// the data path: it costs optimisations.
let testability: [SwiftSetting] = [.unsafeFlags(["-enable-testing"], .when(configuration: .release))]

func library(_ name: String, _ dependencies: [Target.Dependency] = [], isTestable: Bool = false) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: settings + (isTestable ? testability : []))
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: dependencies, swiftSettings: settings)
}

let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let subprocess: Target.Dependency = .product(name: "Subprocess", package: "swift-subprocess")
let system: Target.Dependency = .product(name: "SystemPackage", package: "swift-system")

let package = Package(
    name: "slipstream",
    products: [
        .executable(name: "slipstream", targets: ["slipstream"]),
        .library(name: "Balancing", targets: ["Balancing"]),
        .library(name: "BalancingHummingbird", targets: ["BalancingHummingbird"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/swiftlang/swift-subprocess", from: "1.0.2", traits: []),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        // Layer 0: C that SwiftPM must see.
        .target(name: "CReactor", linkerSettings: [.linkedLibrary("uring")]),
        .systemLibrary(name: "CPQ", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
        .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CPGQuery", providers: [.apt(["libpg-query-dev"])]),

        // Layer 1: pure values, no I/O.
        library("Balancing"),
        // The same for a web application: its dependency is not for those who only want routers.
        library(
            "BalancingHummingbird",
            ["Balancing", .product(name: "Hummingbird", package: "hummingbird"), crypto, logging]
        ),
        library("QueryAnalysis"),
        library("PostgresWire"),
        library("PostgresAuth", [crypto]),
        library("HostBasedAuthentication"),

        // Layer 2: pure machines, and the one loop that does I/O for them.
        library("Topology"),
        library(
            "ProxyCore",
            ["Balancing", "HostBasedAuthentication", "PostgresAuth", "PostgresWire", "QueryAnalysis", "Topology"]
        ),
        library(
            "ConfigurationFile",
            ["HostBasedAuthentication", "ProxyCore", "Topology", .product(name: "Yams", package: "Yams")],
            isTestable: true
        ),
        library("Reactor", ["CReactor"]),
        library("TransportSecurity", ["COpenSSL"]),
        library("PostgresClient", ["CPQ", "PostgresWire"], isTestable: true),

        // Layer 3: the services.
        library(
            "Proxy",
            [
                "Balancing", "HostBasedAuthentication", "ProxyCore", "PostgresAuth", "PostgresWire", "QueryAnalysis",
                "Reactor", "Topology", "TransportSecurity", logging,
            ]
        ),
        library("Archive", isTestable: true),
        library(
            "Replication",
            ["Archive", "PostgresClient", "Topology", logging, subprocess, system],
            isTestable: true
        ),
        library(
            "Monitor",
            ["PostgresAuth", "PostgresClient", "PostgresWire", "ProxyCore", "QueryAnalysis", "Topology", logging]
        ),
        library(
            "Dashboard",
            ["Monitor", "PostgresWire", "Topology", .product(name: "Hummingbird", package: "hummingbird"), logging]
        ),

        // Layer 4: the command line.
        .executableTarget(
            name: "slipstream",
            dependencies: [
                "Archive", "ConfigurationFile", "Dashboard", "HostBasedAuthentication", "Monitor", "PostgresClient",
                "PostgresWire", "Proxy", "ProxyCore", "QueryAnalysis", "Replication", "Topology", logging,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ],
            swiftSettings: settings,
            linkerSettings: isSanitized ? [] : [staticRuntime]
        ),

        // What several targets of tests share, and nothing else.
        .target(name: "TestSupport", path: "Tests/TestSupport", swiftSettings: settings),
        // What must be true of the parsers whatever they are given: a short run of it is a test, a long one `script/fuzz`.
        .target(
            name: "FuzzTargets",
            dependencies: [
                "CPGQuery", "HostBasedAuthentication", "PostgresAuth", "PostgresWire", "ProxyCore", "QueryAnalysis",
            ],
            path: "Tests/Fuzzing/Targets",
            swiftSettings: settings
        ),
        .testTarget(
            name: "FuzzTargetTests",
            dependencies: ["FuzzTargets", "TestSupport"],
            path: "Tests/Fuzzing/Replay",
            swiftSettings: settings
        ),
        tests("BalancingTests", ["Balancing", "TestSupport"]),
        tests(
            "BalancingHummingbirdTests",
            [
                "Balancing", "BalancingHummingbird", .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdTesting", package: "hummingbird"), crypto,
            ]
        ),
        tests("QueryAnalysisTests", ["FuzzTargets", "QueryAnalysis", "TestSupport"]),
        tests("PostgresWireTests", ["PostgresWire", "TestSupport"]),
        tests("PostgresAuthTests", ["PostgresAuth", "TestSupport", crypto]),
        tests("TopologyTests", ["Topology"]),
        tests("HostBasedAuthenticationTests", ["HostBasedAuthentication", "TestSupport"]),
        tests(
            "ConfigurationFileTests",
            ["ConfigurationFile", "HostBasedAuthentication", "ProxyCore", "TestSupport", "Topology"]
        ),
        tests(
            "ProxyCoreTests",
            [
                "HostBasedAuthentication", "PostgresAuth", "PostgresClient", "PostgresWire", "ProxyCore",
                "QueryAnalysis", "Replication", "TestSupport", "Topology", logging,
            ]
        ),
        tests("ReactorTests", ["Reactor", "TestSupport"]),
        tests("TransportSecurityTests", ["TransportSecurity", "TestSupport"]),
        // These run the program itself, too, which is built with all targets. They don't depend on it: that would link
        // them as it is linked, and the static libraries lack `Testing`.
        tests("ArchiveTests", ["Archive"]),
        tests("ReplicationTests", ["Archive", "PostgresClient", "Replication", "Topology", logging]),
        .testTarget(
            name: "EndpointTests",
            dependencies: ["HostBasedAuthentication", "PostgresClient", "TestSupport"],
            exclude: ["Clients"],
            swiftSettings: settings
        ),
        tests("PostgresClientTests", ["PostgresClient"]),
        tests(
            "MonitorTests",
            [
                "Dashboard", "Monitor", "PostgresAuth", "PostgresClient", "PostgresWire", "ProxyCore", "QueryAnalysis",
                "Topology", logging,
            ]
        ),
    ]
)

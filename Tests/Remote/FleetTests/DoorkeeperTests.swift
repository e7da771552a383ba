import Foundation
import Testing

@testable import Fleet

/// Who is who.
struct DoorkeeperTests {
  private func configuration() throws -> FleetConfiguration {
    var configuration = FleetConfiguration()
    configuration.users = [
      .init(name: "ann", password: try #require(PasswordHash(hashing: "annspassword", rounds: 1 << 10)), isAdmin: true),
      .init(
        name: "bob", password: try #require(PasswordHash(hashing: "bobspassword", rounds: 1 << 10)), isAdmin: false),
    ]
    return configuration
  }

  private func ask(
    _ doorkeeper: Doorkeeper, from address: String = "10.0.0.9", cookie: String? = nil, basic: String? = nil,
    headers: [String: String] = [:]
  ) async -> Viewer? {
    await doorkeeper.viewer(
      from: address, cookie: cookie,
      authorization: basic.map { "Basic \(Data($0.utf8).base64EncodedString())" }, header: { headers[$0] })
  }

  @Test func withoutUsersEverybodyHereMayDoEverything() async throws {
    let doorkeeper = try Doorkeeper(FleetConfiguration())
    defer { doorkeeper.finish() }
    let viewer = await ask(doorkeeper)
    #expect(doorkeeper.isOpen && viewer?.isAdmin == true && viewer?.token.count == 64)
  }

  @Test func aSessionIsItsUsersUntilItEnds() async throws {
    let doorkeeper = try Doorkeeper(try configuration())
    defer { doorkeeper.finish() }
    #expect(await ask(doorkeeper) == nil)
    #expect(await doorkeeper.logIn("ann", "bobspassword", from: "a") == nil)
    #expect(await doorkeeper.logIn("eve", "bobspassword", from: "a") == nil)
    let cookie = try #require(await doorkeeper.logIn("bob", "bobspassword", from: "a"))
    let viewer = try #require(await ask(doorkeeper, cookie: cookie))
    #expect(viewer.name == "bob" && !viewer.isAdmin && viewer.hasSession)
    #expect(await ask(doorkeeper, cookie: cookie + "0") == nil)
    // A user who has another role by now has to log in again.
    var other = try configuration()
    other.users[1].isAdmin = true
    doorkeeper.reload(other)
    #expect(await ask(doorkeeper, cookie: cookie) == nil)
    let again = try #require(await doorkeeper.logIn("bob", "bobspassword", from: "a"))
    doorkeeper.logOut(again)
    #expect(await ask(doorkeeper, cookie: again) == nil)
  }

  @Test func programsSayWhoTheyAreEachTime() async throws {
    // Longer than any machine takes for what follows.
    let doorkeeper = try Doorkeeper(try configuration(), provenTime: 86400)
    defer { doorkeeper.finish() }
    #expect(await ask(doorkeeper, basic: "ann:annspassword")?.isAdmin == true)
    for _ in 0..<20 { #expect(await ask(doorkeeper, basic: "ann:annspassword") != nil) }
    #expect(doorkeeper.hashes == 1, "what was proven is not hashed each time")
    #expect(await ask(doorkeeper, basic: "ann:") == nil)
  }

  @Test func whoFailsTooOftenIsShutOut() async throws {
    let doorkeeper = try Doorkeeper(try configuration())
    defer { doorkeeper.finish() }
    for _ in 0..<10 { #expect(await doorkeeper.logIn("ann", "wrong", from: "bad") == nil) }
    #expect(doorkeeper.isShutOut("bad") && !doorkeeper.isShutOut("good"))
    #expect(await doorkeeper.logIn("ann", "annspassword", from: "bad") == nil)
    #expect(await doorkeeper.logIn("ann", "annspassword", from: "good") != nil)
  }

  @Test func aProxyIsBelievedFromItsOwnAddressOnly() async throws {
    var configuration = FleetConfiguration()
    configuration.proxy = .init(header: "X-Remote-User", from: ["10.0.0.2"], admins: ["ann"])
    let doorkeeper = try Doorkeeper(configuration)
    defer { doorkeeper.finish() }
    #expect(await ask(doorkeeper, from: "10.0.0.2", headers: ["X-Remote-User": "ann"])?.isAdmin == true)
    #expect(await ask(doorkeeper, from: "10.0.0.2", headers: ["X-Remote-User": "bob"])?.isAdmin == false)
    #expect(await ask(doorkeeper, from: "10.0.0.2") == nil)
    #expect(await ask(doorkeeper, from: "10.0.0.3", headers: ["X-Remote-User": "ann"]) == nil)
  }
}

import HTTPTypes
import Hummingbird
import Logging

/// What every request passes: who asks, whether they may, and headers that bind browsers.
struct Gate: RouterMiddleware {
  typealias Context = FleetContext

  let doorkeeper: Doorkeeper
  let listen: FleetConfiguration.Address
  /// The page that says to people why there is none.
  let errorPage: @Sendable (HTTPResponse.Status, String, FleetContext) -> Response

  /// What anybody may have.
  private static func isPublic(_ path: String) -> Bool {
    path == "/login" || path == "/healthz" || path.hasPrefix("/static/")
  }

  func handle(
    _ request: Request, context: FleetContext, next: (Request, FleetContext) async throws -> Response
  ) async throws -> Response {
    var response = await answer(request, context, next)
    // Nothing comes from elsewhere, nothing runs that stands in a page, and no other site frames it.
    response.headers[values: .contentSecurityPolicy] = [
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
        + "frame-ancestors 'none'; base-uri 'none'"
    ]
    response.headers[.xContentTypeOptions] = "nosniff"
    if let name = HTTPField.Name("Referrer-Policy") { response.headers[name] = "same-origin" }
    if response.headers[.cacheControl] == nil { response.headers[.cacheControl] = "no-store" }
    return response
  }

  private func answer(
    _ request: Request, _ context: FleetContext, _ next: (Request, FleetContext) async throws -> Response
  ) async -> Response {
    var context = context
    do {
      let path = request.uri.path
      // A site that makes its own name lead here would else read all as the user's browser.
      if doorkeeper.isOpen, !Self.isOwn(request.head.authority ?? "") {
        throw HTTPError(.misdirectedRequest, message: "this service answers to its own address only")
      }
      context.viewer = await doorkeeper.viewer(
        from: context.address, cookie: request.cookies[Doorkeeper.cookie]?.value,
        authorization: request.headers[.authorization],
        header: { name in HTTPField.Name(name).flatMap { request.headers[$0] } })
      if context.viewer == nil, !Self.isPublic(path) { return Self.refusal(request, doorkeeper) }
      return try await next(request, context)
    } catch let error as HTTPError where Self.isPerson(request) {
      var response = errorPage(error.status, error.body ?? "", context)
      response.headers.append(contentsOf: error.headers)
      return response
    } catch let error as any HTTPResponseError {
      return (try? error.response(from: request, context: context)) ?? Response(status: .internalServerError)
    } catch {
      context.logger.error("\(error)")
      return Response(status: .internalServerError)
    }
  }

  /// Whether a request's authority is this machine by a name that no other site can have.
  private static func isOwn(_ authority: String) -> Bool {
    var host = authority
    if let colon = host.lastIndex(of: ":"), !host.hasSuffix("]") { host = String(host[..<colon]) }
    return ["127.0.0.1", "localhost", "[::1]"].contains(host.lowercased())
  }

  /// Whether a path is there for programs.
  private static func isProgram(_ request: Request) -> Bool {
    ["/api/", "/metrics", "/sd", "/events", "/probe"].contains { request.uri.path.hasPrefix($0) }
  }

  /// Whether a browser asks for a page.
  private static func isPerson(_ request: Request) -> Bool {
    !isProgram(request) && request.headers[.accept]?.contains("text/html") == true
  }

  /// Programs are told to say who they are, people are led to where they can.
  private static func refusal(_ request: Request, _ doorkeeper: Doorkeeper) -> Response {
    guard !isProgram(request), request.method == .get, doorkeeper.hasUsers else {
      return Response(
        status: .unauthorized, headers: [.wwwAuthenticate: "Basic realm=\"GRASS\"", .contentType: "text/plain"],
        body: .init(byteBuffer: .init(string: "say who you are, by a user's name and password\n")))
    }
    return .redirect(to: "/login", type: .normal)
  }
}

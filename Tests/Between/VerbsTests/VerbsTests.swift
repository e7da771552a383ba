import Glibc
import Testing
import Verbs

/// What can be seen on any machine; devices are seen in the laboratory's guests.
@Suite struct VerbsTests {
  private static let hasDevice = access("/dev/infiniband/rdma_cm", F_OK) == 0

  @Test(.enabled(if: !hasDevice)) func aMachineWithoutRDMASaysHowToGetSome() {
    let error = #expect(throws: VerbsError.self) { try ConnectionManager() }
    #expect(error?.reason == .noDevice)
    #expect(error?.description.contains("rdma link add rxe0 type rxe netdev eth0") == true)
  }

  @Test func errorsNameCallAndCause() {
    #expect(
      "\(VerbsError(.call("ibv_alloc_pd", code: EPERM)))".contains("ibv_alloc_pd failed: Operation not permitted"))
    #expect("\(VerbsError(.call("ibv_reg_mr", code: ENOMEM)))".contains("ulimit -l"))
    #expect("\(VerbsError(.rejected(Array("no".utf8))))".contains("no"))
  }
}

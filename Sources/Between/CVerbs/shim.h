// rdma-core's two libraries, and what of them Swift's importer does not see: macros, unions and inline functions.
#pragma once

#include <errno.h>
#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/// An event of the connection manager, copied out of the library's memory and acknowledged.
struct grass_verbs_event {
  struct rdma_cm_id *id;
  struct rdma_cm_id *listener;
  enum rdma_cm_event_type kind;
  int status;
  uint8_t reads_taken;   // How many reads in flight the other side takes, and makes.
  uint8_t reads_made;
  uint8_t private_count;
  uint8_t private_data[256];
};

/// Takes the next event. Returns -1 and errno where there is none (EAGAIN) or the call fails. The corresponding C
/// function is `rdma_get_cm_event`.
static inline int grass_verbs_next_event(struct rdma_event_channel *channel, struct grass_verbs_event *copy) {
  struct rdma_cm_event *event;
  if (rdma_get_cm_event(channel, &event)) return -1;
  *copy = (struct grass_verbs_event){
      .id = event->id,
      .listener = event->listen_id,
      .kind = event->event,
      .status = event->status,
      .reads_taken = event->param.conn.responder_resources,
      .reads_made = event->param.conn.initiator_depth,
  };
  if (event->param.conn.private_data) {
    copy->private_count = event->param.conn.private_data_len;
    memcpy(copy->private_data, event->param.conn.private_data, copy->private_count);
  }
  rdma_ack_cm_event(event);
  return 0;
}

/// A connection request (`is_accept` false) or its acceptance.
static inline int grass_verbs_connect(
    struct rdma_cm_id *id, bool is_accept, const void *private_data, uint8_t count, uint8_t reads_taken,
    uint8_t reads_made) {
  struct rdma_conn_param parameters = {
      .private_data = private_data,
      .private_data_len = count,
      .responder_resources = reads_taken,
      .initiator_depth = reads_made,
      // One less than the field holds: software RDMA takes 7 for ever, and a connection would never be given up.
      .retry_count = 6,
      .rnr_retry_count = 6,
  };
  return is_accept ? rdma_accept(id, &parameters) : rdma_connect(id, &parameters);
}

/// The time until an unacknowledged packet is sent again: 4.096 microseconds times two to the power of `exponent`.
static inline int grass_verbs_set_acknowledge_time(struct rdma_cm_id *id, uint8_t exponent) {
  return rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &exponent, sizeof exponent);
}

/// The corresponding C function is `rdma_create_qp`, for a reliable connection whose every operation completes visibly.
static inline int grass_verbs_create_queue_pair(
    struct rdma_cm_id *id, struct ibv_pd *domain, struct ibv_cq *queue, uint32_t depth, uint32_t inline_count) {
  struct ibv_qp_init_attr attributes = {
      .send_cq = queue,
      .recv_cq = queue,
      .cap = {.max_send_wr = depth, .max_recv_wr = 1, .max_send_sge = 1, .max_recv_sge = 1,
              .max_inline_data = inline_count},
      .qp_type = IBV_QPT_RC,
      .sq_sig_all = 1,
  };
  return rdma_create_qp(id, domain, &attributes);
}

/// The bytes that one operation can carry inline.
static inline uint32_t grass_verbs_inline_count(struct ibv_qp *pair) {
  struct ibv_qp_attr attributes;
  struct ibv_qp_init_attr initial;
  return ibv_query_qp(pair, &attributes, IBV_QP_CAP, &initial) ? 0 : initial.cap.max_inline_data;
}

/// Registers memory; a macro in the library. Relaxed ordering is never asked for.
static inline struct ibv_mr *grass_verbs_register(struct ibv_pd *domain, void *address, size_t count, int access) {
  return ibv_reg_mr(domain, address, count, access);
}

/// Posts a write, a read or a send. Returns an errno. The corresponding C function is `ibv_post_send`.
static inline int grass_verbs_post(
    struct ibv_qp *pair, enum ibv_wr_opcode kind, uint64_t number, const void *local, uint32_t count,
    uint32_t local_key, uint64_t remote, uint32_t remote_key, unsigned flags) {
  struct ibv_sge part = {.addr = (uintptr_t)local, .length = count, .lkey = local_key};
  struct ibv_send_wr request = {
      .wr_id = number,
      .sg_list = &part,
      .num_sge = count > 0,
      .opcode = kind,
      .send_flags = flags,
      .wr.rdma = {.remote_addr = remote, .rkey = remote_key},
  };
  struct ibv_send_wr *bad;
  return ibv_post_send(pair, &request, &bad);
}

/// Posts memory for one message. Returns an errno. The corresponding C function is `ibv_post_recv`.
static inline int grass_verbs_post_receive(
    struct ibv_qp *pair, uint64_t number, void *local, uint32_t count, uint32_t local_key) {
  struct ibv_sge part = {.addr = (uintptr_t)local, .length = count, .lkey = local_key};
  struct ibv_recv_wr request = {.wr_id = number, .sg_list = &part, .num_sge = 1};
  struct ibv_recv_wr *bad;
  return ibv_post_recv(pair, &request, &bad);
}

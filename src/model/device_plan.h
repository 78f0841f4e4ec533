/* Which layers of a model go to a device: arithmetic on sizes alone. */
#ifndef MR_MODEL_DEVICE_PLAN_H
#define MR_MODEL_DEVICE_PLAN_H

#include "model/load.h"

typedef struct mr_plan_sizes {
    uint32_t n_layer;
    const size_t *weights; /* [n_layer] bytes of a layer's weights on the device */
    const size_t *kv;      /* [n_layer] bytes of its keys, values and states for all sequences */
    size_t fixed;          /* head, buffers and whatever else a device needs, with however many layers */
    size_t embedding;      /* more when all layers are there: tables of embeddings and what is made of them at once */
    size_t free;           /* bytes that the device has free */
    const bool *borders;   /* [n_layer] whether the first il layers may stay on the CPU; the first is not read */
} mr_plan_sizes;

typedef struct mr_plan {
    uint32_t first_layer; /* layers from here on go to the device; n_layer = none fits */
    size_t bytes;         /* that these take, all in all */
    size_t bytes_all;     /* that all layers would take */
    size_t bytes_usable;  /* of the free ones: a share is left for what the driver itself needs */
} mr_plan;

/* As many of the last layers as fit, from an allowed border on. */
mr_plan mr_plan_layers(const mr_plan_sizes *sizes);

/* Whether the first il layers may stay on the CPU while the others are on a device. Residual streams, the layers' own
 * embeddings and recurrent states cross the border or stay on their side of it, so any will do but for layers that read
 * the keys and values of another layer: these stand in the memory of where that layer is computed, position by
 * position, and would have to cross in every pass. So no layer behind the border may read those of one before it. */
bool mr_border_allowed(const mr_hparams *hparams, uint32_t il);

/* Opens the device that the load's options ask for, chooses the layers, and fills model->device (NULL where all stays
 * on the CPU). Errors: those of the back end where a device was asked for by name; MR_ERR_NOMEM with the numbers and
 * what to do; MR_ERR_INVALID for a name that is none. With "auto" whatever stands in the way is logged and the CPU
 * serves. */
mr_status mr_device_open(mr_loader *l);

#endif

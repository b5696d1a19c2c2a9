// The image of the guest machines of the tests: made by the mechanism of the product (ts/provider/image), beside the tree.

import { join } from 'node:path';
import { root } from './paths.mjs';
import { step, warn } from './steps.mjs';

/** Where ts/lab/guest.ts looks. */
const FOLDER = 'build/guest';

/** Made once, after the build. Never fails: without it, tests that need a guest are skipped and say so. */
export async function prepareGuestImage() {
  const { guestImage, imageUnavailable } = await import(join(root, 'dist/ts/provider/image/guest-image.js'));
  const unavailable = imageUnavailable();
  if (unavailable !== undefined) return;
  await step('image of the guest machines', async (say) => {
    const { packages } = await guestImage(join(root, FOLDER), say);
    return packages.join(', ');
  }).catch((error) => warn(`going on without it, what needs a guest is skipped: ${error.message}`));
}
